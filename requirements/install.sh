#!/bin/sh
# Fills the virtual environment of an image: install.sh REQUIREMENTS..., files beside this script.
# pip is a wheel in /wheels where there is one, else the base image's own; it never enters the image.
# The requirements name every package that is imported and no other, hence --no-deps. Byte code is compiled
# after trimming, and trusted without a look at the source's time stamp, which differs between builds.
set -eu
cd "$(dirname "$0")"
for name; do
  shift
  set -- "$@" --requirement "$name"
done
PYTHONPATH=$(echo /wheels/pip-*.whl) python3 -m pip --python /opt/serval --disable-pip-version-check install \
  --root-user-action=ignore --no-cache-dir --no-compile --no-deps --only-binary=:all: --find-links /wheels \
  "$@"
python3 trim.py /opt/serval
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/serval/lib
