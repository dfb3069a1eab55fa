// A client of misgiving's server from its protos alone: what is loaded, one picture, a live stream.
//
//     npm ci && node client.js 127.0.0.1:50051 runner.jpg

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const protos = fileURLToPath(new URL("../../../protos", import.meta.url));
const loaded = protoLoader.loadSync("misgiving/v1/detector.proto", {
  includeDirs: [protos],
  defaults: true,
  enums: String,
  longs: Number,
});
const { FailureDetector } = grpc.loadPackageDefinition(loaded).misgiving.v1;

const [address, path] = process.argv.slice(2);
const client = new FailureDetector(address, grpc.credentials.createInsecure());

const ask = (method, request) =>
  new Promise((resolve, reject) => {
    const deadline = Date.now() + 60_000;
    client[method](request, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
  });

const frame = (frameId) => ({
  frameId,
  image: { encoded: readFileSync(path) },
  regions: [{ xPx: 5, yPx: 6, widthPx: 30, heightPx: 40 }],
});

// The newest frame wins on a live stream: whoever sends the next one after the answer loses none.
async function stream(count) {
  const call = client.streamInfer();
  const replies = [];
  call.write({ open: { mode: "STREAM_MODE_LIVE" } });
  call.write({ frame: frame("0") });
  for await (const reply of call) {
    replies.push(reply);
    if (replies.length < count) call.write({ frame: frame(String(replies.length)) });
    else call.end();
  }
  return replies;
}

const { model } = await ask("getModel", {});
const { result } = await ask("infer", { frame: frame("runner") });
console.log(JSON.stringify({ model, result, replies: await stream(5) }));
client.close();
