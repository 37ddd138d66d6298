"""Mutated ModelInferRequests, as bytes, through grpc itself."""

from collections import Counter, deque

import grpc
from mutate import Mutator
from triton_grpc import inputs_of
from tritonclient.grpc import InferenceServerClient, service_pb2

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_AT_ONCE = 64


def seeds(at):
    """The request in both forms: raw, and in typed contents."""
    raw = service_pb2.ModelInferRequest(model_name=at.model)
    typed = service_pb2.ModelInferRequest(model_name=at.model, id="1")
    for one, tensor in zip(inputs_of(at.request), at.request["inputs"], strict=True):
        raw.inputs.append(one._get_tensor())
        raw.raw_input_contents.append(one._get_content())
        typed.inputs.append(one._get_tensor())
        typed.inputs[-1].contents.fp32_contents.extend(tensor["data"])
    return [raw.SerializeToString(), typed.SerializeToString()]


def mutations(at):
    """How many calls ended in which code, with a right prediction and liveness after each batch."""
    right, codes = seeds(at), Counter()
    with grpc.insecure_channel(at.grpc) as channel, InferenceServerClient(at.grpc) as client:
        call = channel.unary_unary(_METHOD)
        assert [len(call(seed, timeout=30)) > 0 for seed in right] == [True, True]
        for batch in range(at.first, at.first + at.batches):
            mutator, waiting = Mutator(batch), deque()
            for _ in range(at.size):
                waiting.append(call.future(mutator.bytes(mutator.random.choice(right)), timeout=30))
                if len(waiting) == _AT_ONCE:
                    codes[waiting.popleft().code().name] += 1
            codes.update(each.code().name for each in waiting)
            assert client.is_server_live()
            client.infer(at.model, inputs_of(at.request))
    return {"codes": dict(codes)}
