"""The FileDescriptorProtos of the standard services, for reflection: those of grpcio-health-checking and
grpcio-reflection, written by python -m tests.serving.grpc."""

from typing import Final

HEALTH: Final = (
    b'\n\x1bgrpc_health/v1/health.proto\x12\x0egrpc.health.v1"%\n\x12HealthCheckRequest\x12\x0f\n\x07service\x18'
    b'\x01 \x01(\t"\xa9\x01\n\x13HealthCheckResponse\x12A\n\x06status\x18\x01 \x01(\x0e21.grpc.health.v1.HealthChe'
    b'ckResponse.ServingStatus"O\n\rServingStatus\x12\x0b\n\x07UNKNOWN\x10\x00\x12\x0b\n\x07SERVING\x10\x01\x12'
    b'\x0f\n\x0bNOT_SERVING\x10\x02\x12\x13\n\x0fSERVICE_UNKNOWN\x10\x03"\x13\n\x11HealthListRequest"\xae\x01\n'
    b"\x12HealthListResponse\x12B\n\x08statuses\x18\x01 \x03(\x0b20.grpc.health.v1.HealthListResponse.StatusesEntry"
    b"\x1aT\n\rStatusesEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x122\n\x05value\x18\x02 \x01(\x0b2#.grpc.health.v1.He"
    b'althCheckResponse:\x028\x012\xfd\x01\n\x06Health\x12P\n\x05Check\x12".grpc.health.v1.HealthCheckRequest\x1a#'
    b'.grpc.health.v1.HealthCheckResponse\x12M\n\x04List\x12!.grpc.health.v1.HealthListRequest\x1a".grpc.health.v1'
    b'.HealthListResponse\x12R\n\x05Watch\x12".grpc.health.v1.HealthCheckRequest\x1a#.grpc.health.v1.HealthCheckRe'
    b"sponse0\x01Bp\n\x11io.grpc.health.v1B\x0bHealthProtoP\x01Z,google.golang.org/grpc/health/grpc_health_v1\xa2"
    b"\x02\x0cGrpcHealthV1\xaa\x02\x0eGrpc.Health.V1b\x06proto3"
)
REFLECTION: Final = (
    b'\n(grpc_reflection/v1alpha/reflection.proto\x12\x17grpc.reflection.v1alpha"\x8a\x02\n\x17ServerReflectionReq'
    b"uest\x12\x0c\n\x04host\x18\x01 \x01(\t\x12\x1a\n\x10file_by_filename\x18\x03 \x01(\tH\x00\x12 \n\x16file_cont"
    b"aining_symbol\x18\x04 \x01(\tH\x00\x12N\n\x19file_containing_extension\x18\x05 \x01(\x0b2).grpc.reflection.v1"
    b"alpha.ExtensionRequestH\x00\x12'\n\x1dall_extension_numbers_of_type\x18\x06 \x01(\tH\x00\x12\x17\n\rlist_se"
    b'rvices\x18\x07 \x01(\tH\x00B\x11\n\x0fmessage_request"E\n\x10ExtensionRequest\x12\x17\n\x0fcontaining_type'
    b'\x18\x01 \x01(\t\x12\x18\n\x10extension_number\x18\x02 \x01(\x05"\xd1\x03\n\x18ServerReflectionResponse\x12'
    b"\x12\n\nvalid_host\x18\x01 \x01(\t\x12J\n\x10original_request\x18\x02 \x01(\x0b20.grpc.reflection.v1alpha.Ser"
    b"verReflectionRequest\x12S\n\x18file_descriptor_response\x18\x04 \x01(\x0b2/.grpc.reflection.v1alpha.FileDescr"
    b"iptorResponseH\x00\x12Z\n\x1eall_extension_numbers_response\x18\x05 \x01(\x0b20.grpc.reflection.v1alpha.Exten"
    b"sionNumberResponseH\x00\x12N\n\x16list_services_response\x18\x06 \x01(\x0b2,.grpc.reflection.v1alpha.ListServ"
    b"iceResponseH\x00\x12@\n\x0eerror_response\x18\x07 \x01(\x0b2&.grpc.reflection.v1alpha.ErrorResponseH\x00B\x12"
    b'\n\x10message_response"7\n\x16FileDescriptorResponse\x12\x1d\n\x15file_descriptor_proto\x18\x01 \x03(\x0c"K'
    b"\n\x17ExtensionNumberResponse\x12\x16\n\x0ebase_type_name\x18\x01 \x01(\t\x12\x18\n\x10extension_number\x18"
    b'\x02 \x03(\x05"P\n\x13ListServiceResponse\x129\n\x07service\x18\x01 \x03(\x0b2(.grpc.reflection.v1alpha.Serv'
    b'iceResponse"\x1f\n\x0fServiceResponse\x12\x0c\n\x04name\x18\x01 \x01(\t":\n\rErrorResponse\x12\x12\n\nerror'
    b"_code\x18\x01 \x01(\x05\x12\x15\n\rerror_message\x18\x02 \x01(\t2\x93\x01\n\x10ServerReflection\x12\x7f\n\x14"
    b"ServerReflectionInfo\x120.grpc.reflection.v1alpha.ServerReflectionRequest\x1a1.grpc.reflection.v1alpha.Server"
    b"ReflectionResponse(\x010\x01Bs\n\x1aio.grpc.reflection.v1alphaB\x15ServerReflectionProtoP\x01Z9google.golang."
    b"org/grpc/reflection/grpc_reflection_v1alpha\xb8\x01\x01b\x06proto3"
)
