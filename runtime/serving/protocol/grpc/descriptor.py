"""The FileDescriptorProto of `inference.proto`, written by python -m tests.serving.protocol.grpc.

No `_pb2.py`: that would register the names in the pool that a whole process shares, where tritonclient and KServe's SDK
register the same ones, and whoever comes second fails.
"""

from typing import Final

FILE: Final = (
    b'\n\x0finference.proto\x12\tinference"\x13\n\x11ServerLiveRequest"(\n\x12ServerLiveResponse\x12\x12\n\x04live'
    b'\x18\x01 \x01(\x08R\x04live"\x14\n\x12ServerReadyRequest"+\n\x13ServerReadyResponse\x12\x14\n\x05ready\x18\x01 '
    b'\x01(\x08R\x05ready"A\n\x11ModelReadyRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version'
    b'\x18\x02 \x01(\tR\x07version"*\n\x12ModelReadyResponse\x12\x14\n\x05ready\x18\x01 \x01(\x08R\x05ready"\x17\n'
    b'\x15ServerMetadataRequest"f\n\x16ServerMetadataResponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n'
    b'\x07version\x18\x02 \x01(\tR\x07version\x12\x1e\n\nextensions\x18\x03 \x03(\tR\nextensions"D\n\x14ModelMetadata'
    b'Request\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"\xcf\x02\n'
    b"\x15ModelMetadataResponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08versions\x18\x02 \x03(\tR\x08"
    b"versions\x12\x1a\n\x08platform\x18\x03 \x01(\tR\x08platform\x12G\n\x06inputs\x18\x04 \x03(\x0b2/.inference.Mode"
    b"lMetadataResponse.TensorMetadataR\x06inputs\x12I\n\x07outputs\x18\x05 \x03(\x0b2/.inference.ModelMetadataRespon"
    b"se.TensorMetadataR\x07outputs\x1aV\n\x0eTensorMetadata\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08"
    b'datatype\x18\x02 \x01(\tR\x08datatype\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape"\xd7\x01\n\x0eInferParamet'
    b"er\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tboolParam\x12!\n\x0bint64_param\x18\x02 \x01(\x03H\x00R\nint6"
    b"4Param\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParam\x12#\n\x0cdouble_param\x18\x04 \x01(\x01H"
    b'\x00R\x0bdoubleParam\x12#\n\x0cuint64_param\x18\x05 \x01(\x04H\x00R\x0buint64ParamB\x12\n\x10parameter_choice"'
    b"\xc3\x02\n\x13InferTensorContents\x12#\n\rbool_contents\x18\x01 \x03(\x08R\x0cboolContents\x12!\n\x0cint_conten"
    b"ts\x18\x02 \x03(\x05R\x0bintContents\x12%\n\x0eint64_contents\x18\x03 \x03(\x03R\rint64Contents\x12#\n\ruint_co"
    b"ntents\x18\x04 \x03(\rR\x0cuintContents\x12'\n\x0fuint64_contents\x18\x05 \x03(\x04R\x0euint64Contents\x12#\n\r"
    b"fp32_contents\x18\x06 \x03(\x02R\x0cfp32Contents\x12#\n\rfp64_contents\x18\x07 \x03(\x01R\x0cfp64Contents\x12%"
    b'\n\x0ebytes_contents\x18\x08 \x03(\x0cR\rbytesContents"\x9d\x08\n\x11ModelInferRequest\x12\x1d\n\nmodel_name'
    b"\x18\x01 \x01(\tR\tmodelName\x12#\n\rmodel_version\x18\x02 \x01(\tR\x0cmodelVersion\x12\x0e\n\x02id\x18\x03 "
    b"\x01(\tR\x02id\x12L\n\nparameters\x18\x04 \x03(\x0b2,.inference.ModelInferRequest.ParametersEntryR\nparameters"
    b"\x12E\n\x06inputs\x18\x05 \x03(\x0b2-.inference.ModelInferRequest.InferInputTensorR\x06inputs\x12Q\n\x07outputs"
    b"\x18\x06 \x03(\x0b27.inference.ModelInferRequest.InferRequestedOutputTensorR\x07outputs\x12,\n\x12raw_input_con"
    b"tents\x18\x07 \x03(\x0cR\x10rawInputContents\x1a\xcd\x02\n\x10InferInputTensor\x12\x12\n\x04name\x18\x01 \x01("
    b"\tR\x04name\x12\x1a\n\x08datatype\x18\x02 \x01(\tR\x08datatype\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape"
    b"\x12]\n\nparameters\x18\x04 \x03(\x0b2=.inference.ModelInferRequest.InferInputTensor.ParametersEntryR\nparamete"
    b"rs\x12:\n\x08contents\x18\x05 \x01(\x0b2\x1e.inference.InferTensorContentsR\x08contents\x1aX\n\x0fParametersEnt"
    b"ry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR"
    b"\x05value:\x028\x01\x1a\xf3\x01\n\x1aInferRequestedOutputTensor\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12g"
    b"\n\nparameters\x18\x02 \x03(\x0b2G.inference.ModelInferRequest.InferRequestedOutputTensor.ParametersEntryR\npar"
    b"ameters\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2"
    b"\x19.inference.InferParameterR\x05value:\x028\x01\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR"
    b'\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05value:\x028\x01"\xdf\x05\n\x12Model'
    b"InferResponse\x12\x1d\n\nmodel_name\x18\x01 \x01(\tR\tmodelName\x12#\n\rmodel_version\x18\x02 \x01(\tR\x0cmodel"
    b"Version\x12\x0e\n\x02id\x18\x03 \x01(\tR\x02id\x12M\n\nparameters\x18\x04 \x03(\x0b2-.inference.ModelInferRespo"
    b"nse.ParametersEntryR\nparameters\x12I\n\x07outputs\x18\x05 \x03(\x0b2/.inference.ModelInferResponse.InferOutput"
    b"TensorR\x07outputs\x12.\n\x13raw_output_contents\x18\x06 \x03(\x0cR\x11rawOutputContents\x1a\xd0\x02\n\x11Infer"
    b"OutputTensor\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08datatype\x18\x02 \x01(\tR\x08datatype\x12"
    b"\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape\x12_\n\nparameters\x18\x04 \x03(\x0b2?.inference.ModelInferResponse"
    b".InferOutputTensor.ParametersEntryR\nparameters\x12:\n\x08contents\x18\x05 \x01(\x0b2\x1e.inference.InferTensor"
    b"ContentsR\x08contents\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18"
    b"\x02 \x01(\x0b2\x19.inference.InferParameterR\x05value:\x028\x01\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18"
    b'\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05value:\x028\x01"\x85'
    b"\x01\n\x18ModelStreamInferResponse\x12#\n\rerror_message\x18\x01 \x01(\tR\x0cerrorMessage\x12D\n\x0einfer_respo"
    b'nse\x18\x02 \x01(\x0b2\x1d.inference.ModelInferResponseR\rinferResponse"\x82\x01\n\nModelInput\x12\x12\n\x04nam'
    b"e\x18\x01 \x01(\tR\x04name\x120\n\tdata_type\x18\x02 \x01(\x0e2\x13.inference.DataTypeR\x08dataType\x12\x12\n"
    b'\x04dims\x18\x04 \x03(\x03R\x04dims\x12\x1a\n\x08optional\x18\x08 \x01(\x08R\x08optional"g\n\x0bModelOutput\x12'
    b"\x12\n\x04name\x18\x01 \x01(\tR\x04name\x120\n\tdata_type\x18\x02 \x01(\x0e2\x13.inference.DataTypeR\x08dataTyp"
    b'e\x12\x12\n\x04dims\x18\x03 \x03(\x03R\x04dims"\xda\x01\n\x0bModelConfig\x12\x12\n\x04name\x18\x01 \x01(\tR\x04'
    b"name\x12\x1a\n\x08platform\x18\x02 \x01(\tR\x08platform\x12$\n\x0emax_batch_size\x18\x04 \x01(\x05R\x0cmaxBatch"
    b"Size\x12+\n\x05input\x18\x05 \x03(\x0b2\x15.inference.ModelInputR\x05input\x12.\n\x06output\x18\x06 \x03(\x0b2"
    b'\x16.inference.ModelOutputR\x06output\x12\x18\n\x07backend\x18\x11 \x01(\tR\x07backend"B\n\x12ModelConfigReques'
    b't\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"E\n\x13ModelConfi'
    b'gResponse\x12.\n\x06config\x18\x01 \x01(\x0b2\x16.inference.ModelConfigR\x06config"9\n\x11StatisticDuration\x12'
    b'\x14\n\x05count\x18\x01 \x01(\x04R\x05count\x12\x0e\n\x02ns\x18\x02 \x01(\x04R\x02ns"\xf2\x03\n\x0fInferStatist'
    b"ics\x126\n\x07success\x18\x01 \x01(\x0b2\x1c.inference.StatisticDurationR\x07success\x120\n\x04fail\x18\x02 "
    b"\x01(\x0b2\x1c.inference.StatisticDurationR\x04fail\x122\n\x05queue\x18\x03 \x01(\x0b2\x1c.inference.StatisticD"
    b"urationR\x05queue\x12A\n\rcompute_input\x18\x04 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInput\x12"
    b"A\n\rcompute_infer\x18\x05 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInfer\x12C\n\x0ecompute_output"
    b"\x18\x06 \x01(\x0b2\x1c.inference.StatisticDurationR\rcomputeOutput\x129\n\tcache_hit\x18\x07 \x01(\x0b2\x1c.in"
    b"ference.StatisticDurationR\x08cacheHit\x12;\n\ncache_miss\x18\x08 \x01(\x0b2\x1c.inference.StatisticDurationR\t"
    b'cacheMiss"\x86\x03\n\x17InferResponseStatistics\x12A\n\rcompute_infer\x18\x01 \x01(\x0b2\x1c.inference.Statisti'
    b"cDurationR\x0ccomputeInfer\x12C\n\x0ecompute_output\x18\x02 \x01(\x0b2\x1c.inference.StatisticDurationR\rcomput"
    b"eOutput\x126\n\x07success\x18\x03 \x01(\x0b2\x1c.inference.StatisticDurationR\x07success\x120\n\x04fail\x18\x04"
    b" \x01(\x0b2\x1c.inference.StatisticDurationR\x04fail\x12C\n\x0eempty_response\x18\x05 \x01(\x0b2\x1c.inference."
    b"StatisticDurationR\remptyResponse\x124\n\x06cancel\x18\x06 \x01(\x0b2\x1c.inference.StatisticDurationR\x06cance"
    b'l"\x80\x02\n\x14InferBatchStatistics\x12\x1d\n\nbatch_size\x18\x01 \x01(\x04R\tbatchSize\x12A\n\rcompute_input'
    b"\x18\x02 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInput\x12A\n\rcompute_infer\x18\x03 \x01(\x0b2"
    b"\x1c.inference.StatisticDurationR\x0ccomputeInfer\x12C\n\x0ecompute_output\x18\x04 \x01(\x0b2\x1c.inference.Sta"
    b'tisticDurationR\rcomputeOutput"N\n\x0bMemoryUsage\x12\x12\n\x04type\x18\x01 \x01(\tR\x04type\x12\x0e\n\x02id'
    b'\x18\x02 \x01(\x03R\x02id\x12\x1b\n\tbyte_size\x18\x03 \x01(\x04R\x08byteSize"\xb6\x04\n\x0fModelStatistics\x12'
    b"\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12%\n\x0elast_inferen"
    b"ce\x18\x03 \x01(\x04R\rlastInference\x12'\n\x0finference_count\x18\x04 \x01(\x04R\x0einferenceCount\x12'\n\x0fe"
    b"xecution_count\x18\x05 \x01(\x04R\x0eexecutionCount\x12C\n\x0finference_stats\x18\x06 \x01(\x0b2\x1a.inference."
    b"InferStatisticsR\x0einferenceStats\x12@\n\x0bbatch_stats\x18\x07 \x03(\x0b2\x1f.inference.InferBatchStatisticsR"
    b"\nbatchStats\x129\n\x0cmemory_usage\x18\x08 \x03(\x0b2\x16.inference.MemoryUsageR\x0bmemoryUsage\x12T\n\x0eresp"
    b"onse_stats\x18\t \x03(\x0b2-.inference.ModelStatistics.ResponseStatsEntryR\rresponseStats\x1ad\n\x12ResponseSta"
    b'tsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x128\n\x05value\x18\x02 \x01(\x0b2".inference.InferResponseSta'
    b'tisticsR\x05value:\x028\x01"F\n\x16ModelStatisticsRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n'
    b'\x07version\x18\x02 \x01(\tR\x07version"V\n\x17ModelStatisticsResponse\x12;\n\x0bmodel_stats\x18\x01 \x03(\x0b2'
    b"\x1a.inference.ModelStatisticsR\nmodelStats\"W\n\x16RepositoryIndexRequest\x12'\n\x0frepository_name\x18\x01 "
    b'\x01(\tR\x0erepositoryName\x12\x14\n\x05ready\x18\x02 \x01(\x08R\x05ready"\xca\x01\n\x17RepositoryIndexResponse'
    b"\x12E\n\x06models\x18\x01 \x03(\x0b2-.inference.RepositoryIndexResponse.ModelIndexR\x06models\x1ah\n\nModelInde"
    b"x\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12\x14\n\x05stat"
    b'e\x18\x03 \x01(\tR\x05state\x12\x16\n\x06reason\x18\x04 \x01(\tR\x06reason"\xba\x01\n\x18ModelRepositoryParamet'
    b"er\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tboolParam\x12!\n\x0bint64_param\x18\x02 \x01(\x03H\x00R\nint6"
    b"4Param\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParam\x12!\n\x0bbytes_param\x18\x04 \x01(\x0cH\x00"
    b"R\nbytesParamB\x12\n\x10parameter_choice\"\x9f\x02\n\x1aRepositoryModelLoadRequest\x12'\n\x0frepository_name"
    b"\x18\x01 \x01(\tR\x0erepositoryName\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\tmodelName\x12U\n\nparameters\x18"
    b"\x03 \x03(\x0b25.inference.RepositoryModelLoadRequest.ParametersEntryR\nparameters\x1ab\n\x0fParametersEntry"
    b"\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.inference.ModelRepositoryParamete"
    b'rR\x05value:\x028\x01"\x1d\n\x1bRepositoryModelLoadResponse"\xa3\x02\n\x1cRepositoryModelUnloadRequest\x12\'\n'
    b"\x0frepository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\tmodelName\x12W\n"
    b"\nparameters\x18\x03 \x03(\x0b27.inference.RepositoryModelUnloadRequest.ParametersEntryR\nparameters\x1ab\n\x0f"
    b"ParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.inference.ModelRep"
    b'ositoryParameterR\x05value:\x028\x01"\x1f\n\x1dRepositoryModelUnloadResponse"\xd6\x02\n\x12LogSettingsRequest'
    b"\x12G\n\x08settings\x18\x01 \x03(\x0b2+.inference.LogSettingsRequest.SettingsEntryR\x08settings\x1a\x8d\x01\n"
    b"\x0cSettingValue\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tboolParam\x12#\n\x0cuint32_param\x18\x02 \x01("
    b"\rH\x00R\x0buint32Param\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParamB\x12\n\x10parameter_choice"
    b"\x1ag\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12@\n\x05value\x18\x02 \x01(\x0b2*.inference.L"
    b'ogSettingsRequest.SettingValueR\x05value:\x028\x01"\xd9\x02\n\x13LogSettingsResponse\x12H\n\x08settings\x18\x01'
    b" \x03(\x0b2,.inference.LogSettingsResponse.SettingsEntryR\x08settings\x1a\x8d\x01\n\x0cSettingValue\x12\x1f\n\n"
    b"bool_param\x18\x01 \x01(\x08H\x00R\tboolParam\x12#\n\x0cuint32_param\x18\x02 \x01(\rH\x00R\x0buint32Param\x12#"
    b"\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParamB\x12\n\x10parameter_choice\x1ah\n\rSettingsEntry\x12"
    b"\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12A\n\x05value\x18\x02 \x01(\x0b2+.inference.LogSettingsResponse.Setting"
    b'ValueR\x05value:\x028\x01"\x8e\x02\n\x13TraceSettingRequest\x12H\n\x08settings\x18\x01 \x03(\x0b2,.inference.Tr'
    b"aceSettingRequest.SettingsEntryR\x08settings\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\tmodelName\x1a$\n\x0cSettin"
    b"gValue\x12\x14\n\x05value\x18\x01 \x03(\tR\x05value\x1ah\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03"
    b'key\x12A\n\x05value\x18\x02 \x01(\x0b2+.inference.TraceSettingRequest.SettingValueR\x05value:\x028\x01"\xf2\x01'
    b"\n\x14TraceSettingResponse\x12I\n\x08settings\x18\x01 \x03(\x0b2-.inference.TraceSettingResponse.SettingsEntryR"
    b"\x08settings\x1a$\n\x0cSettingValue\x12\x14\n\x05value\x18\x01 \x03(\tR\x05value\x1ai\n\rSettingsEntry\x12\x10"
    b"\n\x03key\x18\x01 \x01(\tR\x03key\x12B\n\x05value\x18\x02 \x01(\x0b2,.inference.TraceSettingResponse.SettingVal"
    b"ueR\x05value:\x028\x01*\xfa\x01\n\x08DataType\x12\x10\n\x0cTYPE_INVALID\x10\x00\x12\r\n\tTYPE_BOOL\x10\x01\x12"
    b"\x0e\n\nTYPE_UINT8\x10\x02\x12\x0f\n\x0bTYPE_UINT16\x10\x03\x12\x0f\n\x0bTYPE_UINT32\x10\x04\x12\x0f\n\x0bTYPE_"
    b"UINT64\x10\x05\x12\r\n\tTYPE_INT8\x10\x06\x12\x0e\n\nTYPE_INT16\x10\x07\x12\x0e\n\nTYPE_INT32\x10\x08\x12\x0e\n"
    b"\nTYPE_INT64\x10\t\x12\r\n\tTYPE_FP16\x10\n\x12\r\n\tTYPE_FP32\x10\x0b\x12\r\n\tTYPE_FP64\x10\x0c\x12\x0f\n\x0b"
    b"TYPE_STRING\x10\r\x12\r\n\tTYPE_BF16\x10\x0e2\xbe\t\n\x14GRPCInferenceService\x12I\n\nServerLive\x12\x1c.infere"
    b"nce.ServerLiveRequest\x1a\x1d.inference.ServerLiveResponse\x12L\n\x0bServerReady\x12\x1d.inference.ServerReadyR"
    b"equest\x1a\x1e.inference.ServerReadyResponse\x12I\n\nModelReady\x12\x1c.inference.ModelReadyRequest\x1a\x1d.inf"
    b"erence.ModelReadyResponse\x12U\n\x0eServerMetadata\x12 .inference.ServerMetadataRequest\x1a!.inference.ServerMe"
    b"tadataResponse\x12R\n\rModelMetadata\x12\x1f.inference.ModelMetadataRequest\x1a .inference.ModelMetadataRespons"
    b"e\x12I\n\nModelInfer\x12\x1c.inference.ModelInferRequest\x1a\x1d.inference.ModelInferResponse\x12Y\n\x10ModelSt"
    b"reamInfer\x12\x1c.inference.ModelInferRequest\x1a#.inference.ModelStreamInferResponse(\x010\x01\x12L\n\x0bModel"
    b"Config\x12\x1d.inference.ModelConfigRequest\x1a\x1e.inference.ModelConfigResponse\x12X\n\x0fModelStatistics\x12"
    b'!.inference.ModelStatisticsRequest\x1a".inference.ModelStatisticsResponse\x12X\n\x0fRepositoryIndex\x12!.infere'
    b'nce.RepositoryIndexRequest\x1a".inference.RepositoryIndexResponse\x12d\n\x13RepositoryModelLoad\x12%.inference.'
    b"RepositoryModelLoadRequest\x1a&.inference.RepositoryModelLoadResponse\x12j\n\x15RepositoryModelUnload\x12'.infe"
    b"rence.RepositoryModelUnloadRequest\x1a(.inference.RepositoryModelUnloadResponse\x12L\n\x0bLogSettings\x12\x1d.i"
    b"nference.LogSettingsRequest\x1a\x1e.inference.LogSettingsResponse\x12O\n\x0cTraceSetting\x12\x1e.inference.Trac"
    b"eSettingRequest\x1a\x1f.inference.TraceSettingResponseb\x06proto3"
)
