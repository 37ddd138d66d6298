"""The FileDescriptorProtos of the standard services, for reflection: those of grpcio-health-checking and
grpcio-reflection, written by python -m tests.serving.grpc."""

from typing import Final

HEALTH: Final = (
    b'\n\x1bgrpc_health/v1/health.proto\x12\x0egrpc.health.v1"%\n\x12HealthCheckRequest\x12\x0f\n\x07service\x18\x01 '
    b'\x01(\t"\xa9\x01\n\x13HealthCheckResponse\x12A\n\x06status\x18\x01 \x01(\x0e21.grpc.health.v1.HealthCheckRespon'
    b'se.ServingStatus"O\n\rServingStatus\x12\x0b\n\x07UNKNOWN\x10\x00\x12\x0b\n\x07SERVING\x10\x01\x12\x0f\n\x0bNOT_'
    b'SERVING\x10\x02\x12\x13\n\x0fSERVICE_UNKNOWN\x10\x03"\x13\n\x11HealthListRequest"\xae\x01\n\x12HealthListRespon'
    b"se\x12B\n\x08statuses\x18\x01 \x03(\x0b20.grpc.health.v1.HealthListResponse.StatusesEntry\x1aT\n\rStatusesEntry"
    b"\x12\x0b\n\x03key\x18\x01 \x01(\t\x122\n\x05value\x18\x02 \x01(\x0b2#.grpc.health.v1.HealthCheckResponse:\x028"
    b'\x012\xfd\x01\n\x06Health\x12P\n\x05Check\x12".grpc.health.v1.HealthCheckRequest\x1a#.grpc.health.v1.HealthChec'
    b'kResponse\x12M\n\x04List\x12!.grpc.health.v1.HealthListRequest\x1a".grpc.health.v1.HealthListResponse\x12R\n'
    b'\x05Watch\x12".grpc.health.v1.HealthCheckRequest\x1a#.grpc.health.v1.HealthCheckResponse0\x01Bp\n\x11io.grpc.he'
    b"alth.v1B\x0bHealthProtoP\x01Z,google.golang.org/grpc/health/grpc_health_v1\xa2\x02\x0cGrpcHealthV1\xaa\x02\x0eG"
    b"rpc.Health.V1b\x06proto3"
)

REFLECTION: Final = (
    b'\n(grpc_reflection/v1alpha/reflection.proto\x12\x17grpc.reflection.v1alpha"\x8a\x02\n\x17ServerReflectionReques'
    b"t\x12\x0c\n\x04host\x18\x01 \x01(\t\x12\x1a\n\x10file_by_filename\x18\x03 \x01(\tH\x00\x12 \n\x16file_containin"
    b"g_symbol\x18\x04 \x01(\tH\x00\x12N\n\x19file_containing_extension\x18\x05 \x01(\x0b2).grpc.reflection.v1alpha.E"
    b"xtensionRequestH\x00\x12'\n\x1dall_extension_numbers_of_type\x18\x06 \x01(\tH\x00\x12\x17\n\rlist_services\x18"
    b'\x07 \x01(\tH\x00B\x11\n\x0fmessage_request"E\n\x10ExtensionRequest\x12\x17\n\x0fcontaining_type\x18\x01 \x01('
    b'\t\x12\x18\n\x10extension_number\x18\x02 \x01(\x05"\xd1\x03\n\x18ServerReflectionResponse\x12\x12\n\nvalid_host'
    b"\x18\x01 \x01(\t\x12J\n\x10original_request\x18\x02 \x01(\x0b20.grpc.reflection.v1alpha.ServerReflectionRequest"
    b"\x12S\n\x18file_descriptor_response\x18\x04 \x01(\x0b2/.grpc.reflection.v1alpha.FileDescriptorResponseH\x00\x12"
    b"Z\n\x1eall_extension_numbers_response\x18\x05 \x01(\x0b20.grpc.reflection.v1alpha.ExtensionNumberResponseH\x00"
    b"\x12N\n\x16list_services_response\x18\x06 \x01(\x0b2,.grpc.reflection.v1alpha.ListServiceResponseH\x00\x12@\n"
    b'\x0eerror_response\x18\x07 \x01(\x0b2&.grpc.reflection.v1alpha.ErrorResponseH\x00B\x12\n\x10message_response"7'
    b'\n\x16FileDescriptorResponse\x12\x1d\n\x15file_descriptor_proto\x18\x01 \x03(\x0c"K\n\x17ExtensionNumberRespons'
    b'e\x12\x16\n\x0ebase_type_name\x18\x01 \x01(\t\x12\x18\n\x10extension_number\x18\x02 \x03(\x05"P\n\x13ListServic'
    b'eResponse\x129\n\x07service\x18\x01 \x03(\x0b2(.grpc.reflection.v1alpha.ServiceResponse"\x1f\n\x0fServiceRespon'
    b'se\x12\x0c\n\x04name\x18\x01 \x01(\t":\n\rErrorResponse\x12\x12\n\nerror_code\x18\x01 \x01(\x05\x12\x15\n\rerro'
    b"r_message\x18\x02 \x01(\t2\x93\x01\n\x10ServerReflection\x12\x7f\n\x14ServerReflectionInfo\x120.grpc.reflection"
    b".v1alpha.ServerReflectionRequest\x1a1.grpc.reflection.v1alpha.ServerReflectionResponse(\x010\x01Bs\n\x1aio.grpc"
    b".reflection.v1alphaB\x15ServerReflectionProtoP\x01Z9google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
    b"\xb8\x01\x01b\x06proto3"
)
