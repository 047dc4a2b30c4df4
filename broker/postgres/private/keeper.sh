# Usage: keeper FOLDER. Reads the server's process id from a pipe: a line at each change, 0 for none. The pipe ends with
# the process that holds it. It ended in peace if its last line is "done"; else there is a server to end and a folder to
# remove.
folder=$1
pid=0
while read -r line; do pid=$line; done
[ "$pid" = done ] && exit 0

if [ "$pid" != 0 ]; then
    for signal in INT QUIT KILL; do
        kill -s "$signal" "$pid" 2>/dev/null
        # The server takes its socket away as it ends. Its process may stay for a while, as a zombie of a slow process 1.
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
            set -- "$folder"/.s.PGSQL.*
            [ -e "$1" ] || break 2
            sleep 0.1
        done
    done
fi
rm -rf "$folder"
