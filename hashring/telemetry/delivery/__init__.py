"""From the loops to the publishers: the outlet, the spool, a courier for each publisher."""
