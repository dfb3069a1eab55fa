// A client that hands raw frames over in shared memory, by the words of docs/wire.md.
//
//     npm ci && node memory.js 127.0.0.1:50051 WIDTH HEIGHT < rgb

import { closeSync, fstatSync, openSync, readFileSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const protos = fileURLToPath(new URL("../../../protos", import.meta.url));
const loaded = protoLoader.loadSync("misgiving/v1/detector.proto", {
  includeDirs: [protos],
  defaults: true,
  longs: Number,
});
const { FailureDetector } = grpc.loadPackageDefinition(loaded).misgiving.v1;

const [address, width, height] = process.argv.slice(2);
const pixels = readFileSync(0);
const client = new FailureDetector(address, grpc.credentials.createInsecure());

const lending = client.shareMemory({ slots: 2, slotBytes: pixels.length });
const { memory } = await new Promise((resolve, reject) => {
  lending.once("data", resolve).on("error", reject);
});
if (memory.name.includes("/")) throw new Error(memory.name);
const file = openSync(`/dev/shm/${memory.name}`, "r+");
if (fstatSync(file).size !== memory.slots * memory.slotBytes) throw new Error("size");

const infer = (slot) =>
  new Promise((resolve, reject) => {
    writeSync(file, pixels, 0, pixels.length, slot * memory.slotBytes);
    const shared = { token: memory.token, slot, heightPx: height, widthPx: width };
    const frame = { frameId: String(slot), image: { shared } };
    client.infer({ frame }, (error, reply) => (error ? reject(error) : resolve(reply.result)));
  });

console.log(JSON.stringify([await infer(0), await infer(1)]));
lending.removeAllListeners("error").on("error", () => {}); // CANCELLED, by us
lending.cancel();
closeSync(file);
client.close();
