#!/usr/bin/env bash
# Installs Debian's pdflatex with booktabs for the test of the report, where none is on PATH. Needs root, or sudo
# without a password.
exec "$(dirname "$0")/install_debian.sh" pdflatex texlive-latex-base texlive-latex-recommended
