#!/usr/bin/env bash
# Installs Debian's Chromium for the browser tests, where none is on PATH. Needs root, or sudo without a password.
export BY_HAND=", or name one in BENCH_CHROMIUM"
exec "$(dirname "$0")/install_debian.sh" chromium chromium fonts-dejavu-core
