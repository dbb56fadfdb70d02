CREATE TABLE meters (key text PRIMARY KEY, value float8 NOT NULL, epoch bigint NOT NULL);
