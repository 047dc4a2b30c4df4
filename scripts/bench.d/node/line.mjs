// The side of a measured process in the conversation that hub/hub.go describes.
import net from "node:net";
import { createInterface } from "node:readline";

const loadEvery = 10; // ms
const smallArgs = 60; // bytes

// The clock of hub/clock.go, in nanoseconds.
const now = () => process.hrtime.bigint();

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function newArgs(n, size, trace) {
  const frame = '{"n":,"trace":false,"pad":""}'.length + String(n).length;
  return { n, trace, pad: "x".repeat(Math.max(0, size - frame)) };
}

// dial says hello, and ends the process when the harness hangs up.
async function dial(path, role) {
  const socket = net.createConnection(path);
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.on("close", () => process.exit(0));
  const lines = createInterface({ input: socket });
  socket.write(`hello ${role} ${process.pid}\n`);
  return { socket, lines };
}

// worker waits for the start. What it returns is called at the beginning of every handler.
export async function worker(path) {
  const { socket, lines } = await dial(path, "worker");
  const go = await new Promise((resolve) => lines.once("line", resolve)); // "go MS"
  let pending = "", handled = 0, told = 0;
  setInterval(() => {
    if (handled !== told) pending += `n ${(told = handled)}\n`;
    if (pending !== "") socket.write(pending);
    pending = "";
  }, Number(go.slice("go ".length)));
  return ({ n, trace }) => {
    if (trace || handled === 0) {
      const at = now();
      if (handled === 0) pending += `first ${at}\n`;
      if (trace) pending += `s ${n} ${at}\n`;
    }
    handled++;
  };
}

// inserter does what the harness says with a client of { insert(args), insertMany(args[]) }.
export async function inserter(path, client) {
  const { socket, lines } = await dial(path, "inserter");
  let pending = "";
  const committed = (seq, at) => { pending += `c ${seq} ${at}\n`; };
  const commands = {
    async bulk(from, n, batch, size) {
      for (let done = 0; done < n; done += batch) {
        await client.insertMany(Array.from({ length: Math.min(batch, n - done) }, (_, i) => newArgs(from + done + i, size, false)));
      }
    },
    async single(from, n, gap) {
      for (let i = 0; i < n; i++) {
        await sleep(gap / 2 + Math.random() * gap);
        await client.insert(newArgs(from + i, smallArgs, true));
        committed(from + i, now());
      }
    },
    async load(from, rate, ms) {
      const began = performance.now();
      let sent = 0;
      for (let tick = 0; tick < ms; tick += loadEvery) {
        await sleep(Math.max(0, began + tick - performance.now()));
        const due = Math.floor((rate * (performance.now() - began)) / 1000);
        if (due === sent) continue;
        const jobs = [];
        for (; sent < due; sent++) jobs.push(newArgs(from + sent, smallArgs, true));
        await client.insertMany(jobs);
        const at = now();
        for (const job of jobs) committed(job.n, at);
      }
    },
  };
  for await (const line of lines) {
    const [word, ...numbers] = line.split(" ");
    const began = performance.now();
    try {
      await commands[word](...numbers.map(Number));
      pending += `done ${Math.round((performance.now() - began) * 1e6)}\n`;
    } catch (error) {
      pending += `fail ${JSON.stringify(String(error))}\n`;
    }
    socket.write(pending);
    pending = "";
  }
}
