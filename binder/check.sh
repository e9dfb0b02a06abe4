#!/usr/bin/env bash
# Do what repo2docker's Python buildpack does, without docker, and run every lesson: binder/check.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
want=$(sed -n 's/^python-//p' "$root/binder/runtime.txt")
py=${BINDER_PYTHON:-python$want}
"$py" -c '' 2>/dev/null || { echo "no $py here; using python3"; py=python3; }
git -C "$root" archive HEAD | tar -x -C "$work" # what Binder sees: the committed files
"$py" -m venv "$work/.venv"
export PATH="$work/.venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
cd "$work"
pip install -q jupyterlab notebook nbconvert ipykernel
pip install -q -r binder/requirements.txt
pip check
if [ -e binder/postBuild ]; then
  [ -x binder/postBuild ] || { echo "binder/postBuild is not executable"; exit 1; }
  ./binder/postBuild
fi
for lesson in notebooks/*.ipynb; do
  (cd notebooks && jupyter nbconvert --log-level=ERROR --to notebook --execute --output-dir "$work/out" \
    --ExecutePreprocessor.timeout=300 "$(basename "$lesson")")
  echo "ok $lesson"
done
