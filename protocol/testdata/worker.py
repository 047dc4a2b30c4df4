#!/usr/bin/env python3
"""A complete worker for RWP/1 (PROTOCOL.md) that needs nothing but Python 3.

Run it with RESPIRATE_SOCKET set. It serves the kinds echo, boom, count and wait below; a kind is a function that takes
a run and returns the fields of its result.
"""

import json
import os
import queue
import random
import socket
import struct
import sys
import threading
import time
import uuid


def pack(v):
    if v is None or v is True or v is False:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[v]
    if isinstance(v, int):
        return struct.pack(">Bq", 0xD3, v)
    if isinstance(v, str):
        return struct.pack(">BI", 0xDB, len(v.encode())) + v.encode()
    if isinstance(v, bytes):
        return struct.pack(">BI", 0xC6, len(v)) + v
    if isinstance(v, list):
        return struct.pack(">BI", 0xDD, len(v)) + b"".join(map(pack, v))
    return struct.pack(">BI", 0xDF, len(v)) + b"".join(pack(k) + pack(x) for k, x in v.items())


NUMBERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}


def unpack(b, at=0):
    """Returns the value at an offset and the offset behind it."""
    c, at = b[at], at + 1
    if c <= 0x7F or c >= 0xE0:
        return (c if c <= 0x7F else c - 256), at
    if c in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[c], at
    if c in NUMBERS:
        return struct.unpack_from(NUMBERS[c], b, at)[0], at + struct.calcsize(NUMBERS[c])
    if c in LENGTHS:
        n, at = struct.unpack_from(LENGTHS[c], b, at)[0], at + struct.calcsize(LENGTHS[c])
    else:
        n = c & (0x1F if c >= 0xA0 else 0x0F)
    if c <= 0x8F or c >= 0xDE:
        out = {}
        for _ in range(n):
            key, at = unpack(b, at)
            out[key], at = unpack(b, at)
        return out, at
    if c <= 0x9F or c >= 0xDC:
        items = []
        for _ in range(n):
            item, at = unpack(b, at)
            items.append(item)
        return items, at
    data = b[at : at + n]
    return (data.decode() if c <= 0xBF or c >= 0xD9 else data), at + n


class Run:
    """One lease of a strand, from its arrival to its ack."""

    def __init__(self, strand):
        self.strand, self.tok, self.seq, self.result = strand, strand["tok"], 1, None
        self.stop = threading.Event()  # set when the handler is to come to an end
        self.extend(strand)

    def extend(self, lease):
        self.until = time.monotonic() + lease["ttl_ms"] / 1000


class Worker:
    def __init__(self, handlers, threads=4):
        self.handlers, self.threads, self.wid = handlers, threads, str(uuid.uuid4())
        self.lock = threading.RLock()  # guards held, conn, ids and every write
        self.held, self.conn, self.ids = {}, None, 0
        self.sent = {}  # of this session: the token and number of what each frame has reported, until it is answered
        self.waiting, self.draining = queue.Queue(), False
        for loop in [self.work] * threads + [self.tick]:
            threading.Thread(target=loop, daemon=True).start()

    def serve(self):
        tries = 0
        while not (self.draining and not self.held):
            try:
                self.session()
                tries = 0
            except (OSError, EOFError) as e:
                print("no broker:", e, file=sys.stderr)
            self.conn = None
            time.sleep(random.uniform(0, min(0.05 * 2**tries, 5)))
            tries += 1

    def session(self):
        conn = socket.socket(socket.AF_UNIX)  # Python sets close-on-exec
        conn.connect(os.environ.get("RESPIRATE_SOCKET", "tmp/respirate/respirate.sock"))
        conn.settimeout(15)
        with self.lock:
            self.conn, self.ids, self.hb, self.sent = conn, 0, 5, {}
            hold = [{"s": r.strand["s"], "tok": r.tok, "kind": r.strand["kind"], "st": "done" if r.result else "run"} for r in self.held.values()]
            self.send(op="hello", id=self.next_id(), v=[1, 1], lib="python/1", wid=self.wid, gen="", pid=os.getpid(), boot_bns=0,
                      key=os.environ.get("RESPIRATE_WORKER_KEY"), kinds=[{"kind": k, "labels": ["start"]} for k in self.handlers],
                      caps=["ack_all"], hold=hold)
        with conn, conn.makefile("rb") as stream:
            while True:
                size = stream.read(4)
                body = stream.read(int.from_bytes(size, "big"))
                if not body:
                    raise EOFError("the broker has gone")
                with self.lock:
                    if not self.take(unpack(body)[0]):
                        return

    def take(self, m):
        """Handles one message; false ends the session."""
        op = m["op"]
        if op == "welcome":
            self.hb = m["hb_ms"] / 1000
            self.send(op="want", n=0 if self.draining else self.threads)
            for run in self.held.values():
                self.report(run)
        elif op == "strands":
            for strand in m["b"]:
                if strand["tok"] not in self.held:
                    run = self.held[strand["tok"]] = Run(strand)
                    if self.draining:
                        self.finish(run, {"act": "release"})
                    else:
                        self.waiting.put(run)
        elif op == "lease":
            for lease in m["l"]:
                if lease["tok"] in self.held:
                    self.held[lease["tok"]].extend(lease)
        elif op == "cancel":
            for c in m["c"]:
                if c["tok"] in self.held:
                    self.held[c["tok"]].stop.set()
                    if c["why"] == "lost":
                        del self.held[c["tok"]]
        elif op == "ack":
            frame = self.sent.pop(m["re"], None)
            for e in m["r"] or ([{**frame, "st": "applied"}] if frame and m.get("all") else []):
                run = self.held.get(e["tok"])
                if run and e["st"] == "later":
                    threading.Timer(e.get("retry_ms", 1000) / 1000, self.report, [run]).start()
                elif run and e["seq"] == run.seq:
                    del self.held[e["tok"]]
        elif op == "ping":
            self.send(op="pong", n=m["n"])
        elif op == "drain":
            self.draining = True
            for run in [r for r in self.held.values() if r.result is None]:
                run.stop.set()
        elif op == "err":
            print("the broker says", m["code"], m["msg"], file=sys.stderr)
            if m["fatal"]:
                time.sleep(60 if m["code"] in ("version", "denied", "superseded") else m.get("retry_ms") or 1)
                return False
        elif op == "bye" or m.get("must"):
            return False
        if self.draining and not self.held:
            self.send(op="bye", why="drained")
            return False
        return True

    def next_id(self):
        self.ids += 1
        return self.ids

    def send(self, **m):
        with self.lock:
            if self.conn:
                body = pack(m)
                try:
                    self.conn.sendall(struct.pack(">I", len(body)) + body)
                except OSError:
                    pass  # the reader finds out

    def report(self, run):
        with self.lock:
            if run.result and run.tok in self.held:
                re = self.next_id()
                self.sent[re] = {"tok": run.tok, "seq": run.seq}
                self.send(op="result", id=re, r=[run.result])

    def finish(self, run, result):
        with self.lock:
            run.result = {"s": run.strand["s"], "tok": run.tok, "seq": run.seq, **result}
            self.report(run)

    def work(self):
        while True:
            run = self.waiting.get()
            try:
                result = {"act": "release"} if run.stop.is_set() else self.handlers[run.strand["kind"]](run)
            except Exception as e:  # whatever a handler raises is its failure
                result = {"act": "fail", "err": {"class": type(e).__name__, "msg": str(e)[:1000]}}
            self.finish(run, result)

    def tick(self):
        while True:
            time.sleep(getattr(self, "hb", 5) / 2)
            self.send(op="ping", n=0)
            with self.lock:
                now, late = time.monotonic(), [r for r in self.held.values() if r.result is None]
            for run in late:
                if now > run.until - 10:
                    run.stop.set()
                if now > run.until - 1 and not self.conn:
                    os._exit(1)  # somebody else is about to run it


def payload(value):
    return json.dumps(value).encode()


def echo(run):
    return {"act": "exit", "val": payload(json.loads(run.strand["args"]))}


def boom(run):
    raise ValueError("boom, as asked")


def count(run):
    """Counts to 3 in its stack, one nap for each."""
    n = json.loads(run.strand.get("stack") or b"[0]")[0] + 1
    return {"act": "exit", "val": payload(n)} if n == 3 else {"act": "nap", "ms": 10, "stack": payload([n])}


def wait(run):
    """Waits until it is asked to stop."""
    run.stop.wait()
    return {"act": "release"}


if __name__ == "__main__":
    Worker({"echo": echo, "boom": boom, "count": count, "wait": wait}).serve()
