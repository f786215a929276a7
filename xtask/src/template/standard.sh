# What a sandbox on the template `standard` runs beside that, without a network.

#: cargo builds and tests a crate
cargo init -q --name little --bin . --vcs none
cargo run -q --offline | grep -x 'Hello, world!'
cargo test -q --offline

#: go builds and runs a module
export GOFLAGS=-mod=mod GOPROXY=off GOCACHE=/tmp/go
printf 'package main\nimport "fmt"\nfunc main() { c := make(chan string); go func() { c <- "hello" }(); fmt.Println(<-c) }\n' > main.go
go mod init little 2> /dev/null
go run . | grep -x hello

#: clang, cmake and ninja
printf '#include <stdio.h>\nint main(void) { puts("hello"); }\n' > hello.c
printf 'cmake_minimum_required(VERSION 3.20)\nproject(hello C)\nadd_executable(hello hello.c)\n' > CMakeLists.txt
CC=clang cmake -G Ninja -B build > /dev/null && ninja -C build > /dev/null && build/hello | grep -x hello

#: Java compiles and runs; maven and gradle start
printf 'public class Hello { public static void main(String[] a) { System.out.println("hello"); } }\n' > Hello.java
javac Hello.java && java Hello | grep -x hello
mvn -v | grep -q 'Apache Maven' && gradle --offline -q --version | grep -q Gradle

#: Ruby, PHP and composer
ruby -rjson -e 'puts JSON.parse("[1,2]").sum' | grep -x 3
php -r 'echo json_encode([1, 2]), "\n";' | grep -x '\[1,2\]'
composer --version 2> /dev/null | grep -q Composer

#: yarn and poetry
yarnpkg --version && poetry --version

#: numpy, pandas, matplotlib, openpyxl, python-docx and pypdf
python3 - <<'PYTHON'
import docx, matplotlib, numpy, openpyxl, pandas, pypdf
matplotlib.use("Agg")
import matplotlib.pyplot as plot
frame = pandas.DataFrame({"n": numpy.arange(10)})
frame.plot(); plot.savefig("plot.pdf")
assert len(pypdf.PdfReader("plot.pdf").pages) == 1
frame.to_excel("frame.xlsx"); assert openpyxl.load_workbook("frame.xlsx").active["B3"].value == 1
document = docx.Document(); document.add_paragraph("word"); document.save("word.docx")
PYTHON

#: PostgreSQL starts and answers
install -d -o postgres /tmp/pg
bin=$(echo /usr/lib/postgresql/*/bin)
setpriv --reuid postgres --regid postgres --clear-groups "$bin/initdb" -D /tmp/pg/data > /dev/null
setpriv --reuid postgres --regid postgres --clear-groups "$bin/pg_ctl" -w -D /tmp/pg/data -o '-k /tmp/pg' -l /tmp/pg/log start > /dev/null
setpriv --reuid postgres --regid postgres --clear-groups psql -h /tmp/pg -Atc 'select sum(n) from generate_series(1, 9) n' postgres | grep -x 45

#: Redis starts and answers
redis-server --port 7000 --save '' --daemonize yes > /dev/null
for _ in $(seq 100); do redis-cli -p 7000 ping > /dev/null 2>&1 && break; sleep 0.1; done
redis-cli -p 7000 set word said > /dev/null && redis-cli -p 7000 get word | grep -x said

#: a headless browser renders a page, runs its script and takes its picture
echo '<body><script>document.body.append(6 * 7)</script></body>' > page.html
chromium --headless --disable-gpu --dump-dom "file://$PWD/page.html" 2> /dev/null | grep -q '</script>42'
/opt/pw-browsers/chromium --headless --disable-gpu --screenshot=page.png "file://$PWD/page.html" 2> /dev/null
test -s page.png

#: LaTeX, pandoc, LibreOffice, poppler, qpdf and tesseract
printf '# Head\n\nWord in print.\n' > text.md
pandoc text.md -o text.docx
pandoc text.md -s -o text.tex && pdflatex -interaction=batchmode text.tex > /dev/null
soffice --headless --convert-to pdf --outdir office text.docx > /dev/null 2>&1
for file in text.pdf office/text.pdf; do qpdf --check "$file" > /dev/null; pdftotext "$file" - | grep -q 'Word in print'; done
pdftoppm -r 200 -png text.pdf page && tesseract page-1.png - 2> /dev/null | grep -q 'Word in print'

#: ffmpeg and ImageMagick
convert -size 64x64 gradient: -resize 32x32 picture.png && identify picture.png | grep -q 32x32
ffmpeg -v error -f lavfi -i testsrc=duration=1:size=64x64:rate=5 film.mp4
ffprobe -v error -show_entries format=duration -of csv=p=0 film.mp4 | grep -q '^1.0'

#: tmux, vim, nano, yq
tmux new-session -d -s one 'sleep 100' && tmux has-session -t one
vim --version > /dev/null && nano --version > /dev/null
echo 'a: [1, 2]' | yq -c '.a' | grep -x '\[1,2\]'
