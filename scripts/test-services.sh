#!/usr/bin/env bash
# Installs what the tests with real services need, where it is missing. As root, on Debian or Ubuntu.
set -euo pipefail

packages=(
    python3-venv # with python3: on Debian 12 the oldest Python that is promised
    docker.io    # containers
    iptables
    mmdebstrap
    ceph-mon     # S3: Ceph's gateway and its store
    ceph-osd
    ceph-common
    radosgw
    postgresql   # MLflow's database
)

missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "error: the tests with real services need ${missing[*]}; on Debian or Ubuntu, as root: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >/dev/null
