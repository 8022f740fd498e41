#!/usr/bin/env bash
# The main job, much reduced, on a fresh Debian:  scripts/test-fresh.sh trixie
# A folder gets that release's smallest system, with git and Python from its packages, and a clone of the last commit, which runs
# scripts/reproduce.sh there.
# As root, with mmdebstrap (scripts/test-services.sh installs it).
#   PACKAGES    what is installed there (default: git, python3, python3-venv, ca-certificates)
set -euo pipefail
cd "$(dirname "$0")/.."

release=${1:?"error: which release? scripts/test-fresh.sh trixie"}
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
mmdebstrap --quiet --variant=minbase --include="${PACKAGES:-git,python3,python3-venv,ca-certificates}" "$release" "$root"
git clone --quiet . "$root/inspo"
sed -i -E "$root/inspo/params.yaml" \
    -e 's/^(  datasets: ).*/\1[xor_b, mne_balanced]/' -e 's/^(  seeds: ).*/\1[0]/' \
    -e 's/^(  (iterations|evaluate_every): )[0-9]+/\12/' -e 's/^(  steps: )[0-9]+/\1100/'

# Of this machine only the way to packages comes along. Mounts in a namespace of their own end with it.
cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
cp /etc/resolv.conf "$root/etc/resolv.conf"
mapfile -t way < <(env | grep -E '^((PIP|UV)_(EXTRA_|DEFAULT_)?INDEX(_URL)?|(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY)=')
unshare --mount --pid --fork --kill-child bash -euc '
    mount -t proc proc "$0/proc"; mount --rbind /sys "$0/sys"; mount --rbind /dev "$0/dev"
    exec chroot "$0" "$@"' "$root" \
    /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 "${way[@]}" /inspo/scripts/reproduce.sh
grep -q mne_balanced "$root/inspo/reports/table.md"
