# What a sandbox on the template `base` runs, without a network. Each part is a sandbox of its own.

#: Python, its standard library and a virtual environment
python3 -c 'import ssl, sqlite3, json; print(sum(range(10)))' | grep -x 45
python3 -m venv /tmp/venv
/tmp/venv/bin/python -c 'import sys; print(sys.prefix)' | grep -x /tmp/venv

#: pip installs a package from a directory
mkdir -p p/little && cd p
printf '[project]\nname = "little"\nversion = "1.0"\n' > pyproject.toml
echo 'WORD = "said"' > little/__init__.py
python3 -m venv --system-site-packages /tmp/venv
/tmp/venv/bin/pip install -q --no-index --no-build-isolation .
cd / && /tmp/venv/bin/python -c 'import little; print(little.WORD)' | grep -x said

#: Node, and npm installs a package from an archive
node -e 'console.log([1, 2, 3].map(n => n * 2).join())' | grep -x 2,4,6
mkdir -p little app && cd little
echo '{"name": "little", "version": "1.0.0", "main": "index.js"}' > package.json
echo 'module.exports = "said"' > index.js
npm pack --silent
cd ../app && echo '{}' > package.json
npm install --offline --silent --no-audit --no-fund ../little/little-1.0.0.tgz
node -p 'require("little")' | grep -x said

#: git commits, branches, merges and clones
git init -q repo && cd repo
git config user.email a@b.invalid && git config user.name a
echo one > file && git add file && git commit -qm one
git switch -qc other && echo two > more && git add more && git commit -qm two
git switch -q - && git merge -q other && cd ..
git clone -q repo clone && git -C clone log --oneline | wc -l | grep -x 2

#: C and C++ compile and run, by make
printf '#include <stdio.h>\nint main(void) { puts("hello"); }\n' > hello.c
printf '#include <iostream>\n#include <thread>\nint main() { std::thread([] { std::cout << "hello\\n"; }).join(); }\n' > there.cc
make -s hello && ./hello | grep -x hello
g++ -O2 -pthread there.cc -o there && ./there | grep -x hello

#: ripgrep, jq, sqlite3
printf 'one\ntwo\n' > file
rg -c 'tw.' file | grep -x 1
echo '{"a": [1, 2]}' | jq -c '.a | add' | grep -x 3
sqlite3 :memory: 'create table t(n); insert into t values (40), (2); select sum(n) from t;' | grep -x 42

#: curl and wget speak to a server inside
python3 -m http.server --bind 127.0.0.1 8000 > /dev/null 2>&1 &
curl --version > /dev/null
curl -s --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:8000/ | grep -q 'Directory listing'
wget -qO- http://127.0.0.1:8000/ | grep -q 'Directory listing'

#: archives: tar, gzip, xz, zstd, zip
echo word > file
for kind in gz xz zst; do tar -caf file.tar.$kind file; tar -xaOf file.tar.$kind | grep -qx word; done
zip -q file.zip file && unzip -p file.zip | grep -x word

#: apt and dpkg: a package is made, installed and removed
mkdir -p little/DEBIAN little/opt && echo word > little/opt/word
printf 'Package: little\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b.invalid>\nDescription: little\n' > little/DEBIAN/control
dpkg-deb --build little /tmp/little.deb > /dev/null
apt-get install -y -q /tmp/little.deb > /dev/null
grep -x word /opt/word
apt-get remove -y -q little > /dev/null && test ! -e /opt/word
