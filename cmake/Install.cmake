# Two components: `runtime` is the versioned shared library alone, `development` the rest.
include(CMakePackageConfigHelpers)

install(TARGETS kafka_producer_shared EXPORT KafkaProducerTargets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime NAMELINK_COMPONENT development)
install(TARGETS kafka_producer_static EXPORT KafkaProducerTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development)
install(FILES include/kafka_producer.h TYPE INCLUDE COMPONENT development)
if(KAFKA_PRODUCER_FEATURES MATCHES "(^|,)(default|mock)(,|$)")
  install(FILES include/kafka_producer_mock.h TYPE INCLUDE COMPONENT development)
endif()

# Before 1.0 the minor version is the one that breaks things.
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/KafkaProducer")
set(compatibility SameMajorVersion)
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(compatibility SameMinorVersion)
endif()
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/KafkaProducerConfigVersion.cmake"
  COMPATIBILITY ${compatibility})
install(EXPORT KafkaProducerTargets NAMESPACE KafkaProducer::
  DESTINATION "${package_dir}" COMPONENT development)
install(FILES cmake/KafkaProducerConfig.cmake
  "${CMAKE_CURRENT_BINARY_DIR}/KafkaProducerConfigVersion.cmake"
  DESTINATION "${package_dir}" COMPONENT development)

# The prefix is written relative to the file, so that a staged or moved tree still works; how far up
# it is depends on the library directory (lib, or lib/x86_64-linux-gnu).
set(pc_dir "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH pc_prefix "${pc_dir}" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
configure_file(cmake/kafka-producer.pc.in "${CMAKE_CURRENT_BINARY_DIR}/kafka-producer.pc" @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/kafka-producer.pc"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT development)
