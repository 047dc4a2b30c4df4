// Graphile Worker: node graphile.mjs prepare|worker|inserter URL SOCKET
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { inserter, worker } from "./line.mjs";

const [role, url, socket] = process.argv.slice(2);
const logger = new Logger(() => (level, message) => { if (level === "error") console.error(message); });

if (role === "worker") {
  const handle = await worker(socket);
  const runner = await run({
    taskList: { noop: async (args) => handle(args) },
    preset: {
      worker: {
        connectionString: url,
        concurrentJobs: 24,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        logger,
      },
    },
    noHandleSignals: true,
  });
  await runner.promise;
} else {
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  if (role === "prepare") {
    await utils.migrate();
    await utils.release();
  } else {
    await inserter(socket, {
      insert: (args) => utils.addJob("noop", args),
      insertMany: (jobs) => utils.addJobs(jobs.map((payload) => ({ identifier: "noop", payload }))),
    });
  }
}
