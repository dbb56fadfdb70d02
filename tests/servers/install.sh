#!/bin/sh
# Install the servers that the tests talk to, from Debian's packages; what is there is left alone.
#
#   tests/servers/install.sh [PACKAGE ...]      default: every server that the tests need
#
# The packages would start services on the default ports: a policy-rc.d that says no is put in
# place for the time of the installation where the machine has none.
set -eu

[ $# -gt 0 ] || set -- redis-server redis-sentinel memcached zookeeper etcd-server \
    libvirt-daemon prometheus jq curl postgresql pgbouncer chromium chromium-driver

missing=""
for package in "$@"; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "the tests need the Debian packages$missing: install them as root" >&2
        exit 1
    }
    exec sudo "$0" "$@"
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
lock="-o DPkg::Lock::Timeout=300"
apt-get $lock update --quiet --quiet
# The word splitting is wanted: one argument a package.
# shellcheck disable=SC2086
apt-get $lock install --yes --no-install-recommends --quiet --quiet $missing

# They are not to start with the machine either.
if command -v systemctl >/dev/null; then
    for service in redis-server redis-sentinel memcached zookeeper etcd prometheus postgresql pgbouncer rabbitmq-server; do
        case "$missing" in *"$service"*) systemctl disable --quiet "$service" 2>/dev/null || true ;; esac
    done
    case "$missing" in  # it brings the daemon that knows the names of Erlang's nodes
        *rabbitmq-server*) systemctl disable --quiet epmd.service epmd.socket 2>/dev/null || true ;;
    esac
fi
