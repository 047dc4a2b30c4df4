# Usage: keeper FOLDER. Reads the server's process id from a pipe, a line for each change, 0 for none. The pipe ends when
# the process that holds it does, in peace after the line "done". Otherwise there is a server to stop and a folder to remove.
folder=$1
pid=0
while read -r line; do pid=$line; done
[ "$pid" = done ] && exit 0

# The server removes this file as it ends. Its process may stay for a while as a zombie of a slow process 1.
alive() { [ "$pid" != 0 ] && [ -e "$folder/.s.PGSQL.$port.lock" ]; }
for lock in "$folder"/.s.PGSQL.*.lock; do port=${lock%.lock}; port=${port##*.}; done
for signal in INT QUIT KILL; do
    alive && kill -s "$signal" "$pid"
    n=0
    while alive && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
done 2>/dev/null
rm -rf "$folder"
