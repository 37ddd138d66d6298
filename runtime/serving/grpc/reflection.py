"""Server reflection, so that grpcurl and its like need no .proto file.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from runtime.serving.protocol.grpc.descriptor import FILE


def handler(services: Sequence[str]) -> Any:
    """Returns the handler of the one method, which tells of `services`."""
    pool = DescriptorPool()
    for file in (FILE, health_pb2.DESCRIPTOR.serialized_pb, reflection_pb2.DESCRIPTOR.serialized_pb):
        pool.AddSerializedFile(file)
    servicer = reflection.aio.ReflectionServicer(services, pool=pool)
    return grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        lambda answer: answer.SerializeToString(),
    )
