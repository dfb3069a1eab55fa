"""A service of few methods, of which some are another server's."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from misgiving.v1 import detector_pb2 as wire
from shared.serving import Running


@contextmanager
def posing(**methods: Callable[[object, grpc.ServicerContext], object]) -> Iterator[str]:
    """A server of the service with these methods alone, as an older one has fewer."""
    kinds: dict[str, tuple[Any, Any]] = {
        "Infer": (grpc.unary_unary_rpc_method_handler, wire.InferRequest),
        "StreamInfer": (grpc.stream_stream_rpc_method_handler, wire.StreamInferRequest),
        "ShareMemory": (grpc.unary_stream_rpc_method_handler, wire.ShareMemoryRequest),
    }
    handlers = {
        name: kinds[name][0](
            method,
            request_deserializer=kinds[name][1].FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, method in methods.items()
    }
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool)
        service = "misgiving.v1.FailureDetector"
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def passed(server: Running) -> dict[str, Callable[..., object]]:
    """What answers frames as a server does."""
    stub = server.stub
    return {
        "Infer": relayed(lambda request, _: stub.Infer(request)),
        "StreamInfer": lambda requests, _: stub.StreamInfer(requests),
    }


def relayed(ask: Callable[..., object]) -> Callable[..., object]:
    def answer(request: object, context: grpc.ServicerContext) -> object:
        try:
            return ask(request, context)
        except grpc.RpcError as error:
            return context.abort(error.code(), error.details())

    return answer
