// pg-boss: node pgboss.mjs prepare|worker|inserter URL SOCKET
import { PgBoss } from "pg-boss";
import { inserter, worker } from "./line.mjs";

const [role, url, socket] = process.argv.slice(2);
const handle = role === "worker" ? await worker(socket) : undefined;
const boss = new PgBoss({ connectionString: url, schedule: false, useListenNotify: role === "worker" });
boss.on("error", (error) => console.error(error));
await boss.start();

if (role === "worker") {
  const options = { batchSize: 1000, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 };
  await boss.work("noop", options, async (jobs) => { for (const job of jobs) handle(job.data); });
} else if (role === "prepare") {
  await boss.createQueue("noop", { notify: true });
  await boss.stop();
} else {
  await inserter(socket, {
    insert: (args) => boss.send("noop", args),
    insertMany: (jobs) => boss.insert("noop", jobs.map((data) => ({ data }))),
  });
}
