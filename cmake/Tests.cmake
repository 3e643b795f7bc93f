# Everything ctest runs. Labels: `rust` (cargo test), `c` (programs on the built libraries),
# `package` (what is exported and installed), `kafka` (starts Apache Kafka; one at a time). A test
# that cannot run on this machine prints one line `skipped: WHICH: WHY` and exits with 77 (Rust
# tests just return): it counts as skipped, and with CI=true as failed.
set(run_test "${CMAKE_CURRENT_SOURCE_DIR}/cmake/run-test.sh")
set(test_environment "KAFKA_PRODUCER_BUILD=${CMAKE_CURRENT_BINARY_DIR}"
  "KAFKA_PRODUCER_SOURCE=${CMAKE_CURRENT_SOURCE_DIR}")

# ctest names the skipped tests and not their reasons: this prints those too, at the end.
file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/CTestCustom.cmake" @ONLY CONTENT [[
set(CTEST_CUSTOM_POST_TEST
  "bash \"@CMAKE_CURRENT_SOURCE_DIR@/cmake/print-skipped.sh\" \"@CMAKE_BINARY_DIR@\"")
]])

# Common to all: the wrapper's exit code for "skipped", the environment, the label, the time limit
# in seconds.
function(kafka_producer_set_up_test name label timeout)
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT "${test_environment}"
    LABELS "${label}" TIMEOUT ${timeout})
  if(label MATCHES "kafka")
    set_tests_properties(${name} PROPERTIES RESOURCE_LOCK kafka)
  endif()
endfunction()

# kafka_producer_c_test(NAME SOURCES a.c ... [ARGS ...] [LABELS ...] [TIMEOUT 240] [STANDARD 11]
# [LIBRARIES ...]) builds the program twice and runs it against the shared and against the static
# library, as NAME.shared and NAME.static.
function(kafka_producer_c_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "TIMEOUT;STANDARD" "SOURCES;ARGS;LABELS;LIBRARIES")
  if(NOT test_TIMEOUT)
    set(test_TIMEOUT 240)
  endif()
  if(NOT test_STANDARD)
    set(test_STANDARD 11)
  endif()
  foreach(kind shared static)
    if(NOT TARGET kafka_producer_${kind})
      continue()
    endif()
    set(program ${name}_${kind})
    add_executable(${program} ${test_SOURCES})
    target_link_libraries(${program} PRIVATE kafka_producer_${kind} ${test_LIBRARIES}
      Threads::Threads ${CMAKE_DL_LIBS})
    target_compile_options(${program} PRIVATE -Wall -Wextra -Wpedantic -Werror)
    target_compile_definitions(${program} PRIVATE _GNU_SOURCE)
    set_target_properties(${program} PROPERTIES C_STANDARD ${test_STANDARD} C_EXTENSIONS OFF)
    add_test(NAME ${name}.${kind} COMMAND "${run_test}" $<TARGET_FILE:${program}> ${test_ARGS})
    kafka_producer_set_up_test(${name}.${kind} "c;${test_LABELS}" ${test_TIMEOUT})
  endforeach()
endfunction()

# The fault proxy: a program between clients and brokers, for tests in any language. Its own tests
# are an entry too.
set(fault_proxy_manifest "${CMAKE_CURRENT_SOURCE_DIR}/tests/support/fault_proxy/Cargo.toml")
set(fault_proxy_dir "${CMAKE_CURRENT_BINARY_DIR}/fault_proxy")
set(fault_proxy "${fault_proxy_dir}/debug/fault-proxy")
add_custom_target(fault_proxy ALL
  COMMAND "${CMAKE_COMMAND}" -E env "CARGO_TARGET_DIR=${fault_proxy_dir}"
    "${CARGO}" build --manifest-path "${fault_proxy_manifest}" ${KAFKA_PRODUCER_CARGO_FLAGS}
  BYPRODUCTS "${fault_proxy}"
  COMMENT "cargo builds the fault proxy"
  USES_TERMINAL VERBATIM)
add_test(NAME cargo.fault_proxy COMMAND "${run_test}" "${CMAKE_COMMAND}" -E env
  "CARGO_TARGET_DIR=${fault_proxy_dir}" "${CARGO}" test --manifest-path "${fault_proxy_manifest}"
  ${KAFKA_PRODUCER_CARGO_FLAGS})
kafka_producer_set_up_test(cargo.fault_proxy rust 300)

if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/ctest/CMakeLists.txt")
  add_subdirectory(ctest)
endif()

if(KAFKA_PRODUCER_SANITIZE)
  return()
endif()

find_program(PYTHON3 python3)
if(PYTHON3 AND EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/.ci/test_summary.py")
  add_test(NAME ci_summary COMMAND "${PYTHON3}" -B .ci/test_summary.py
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  kafka_producer_set_up_test(ci_summary package 300)
endif()

if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/tests/real_kafka/CMakeLists.txt")
  add_subdirectory(tests/real_kafka)
endif()

# Scripts on the built libraries. Those with kafka in their name start Apache Kafka.
file(GLOB scripts CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/tests/*.sh")
foreach(script ${scripts})
  get_filename_component(name "${script}" NAME_WE)
  add_test(NAME ${name} COMMAND "${run_test}" "${script}")
  if(name MATCHES "kafka")
    kafka_producer_set_up_test(${name} kafka 600)
  else()
    kafka_producer_set_up_test(${name} package 300)
  endif()
endforeach()

# cargo test, a ctest entry per file (tests/x.rs, tests/x/main.rs), so that a failure says where and
# time limits fit. The first entry builds them all.
set(cargo_test "${CARGO}" test ${KAFKA_PRODUCER_CARGO_FLAGS})
function(kafka_producer_cargo_test name label timeout)
  add_test(NAME ${name} COMMAND "${run_test}" ${cargo_test} ${ARGN} -- --show-output
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  kafka_producer_set_up_test(${name} "${label}" ${timeout})
  set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED cargo)
endfunction()

add_test(NAME cargo.build COMMAND "${run_test}" ${cargo_test} --no-run
  WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
kafka_producer_set_up_test(cargo.build rust 900)
set_tests_properties(cargo.build PROPERTIES FIXTURES_SETUP cargo PROCESSORS 2)
kafka_producer_cargo_test(cargo.lib rust 300 --lib)
kafka_producer_cargo_test(cargo.doc rust 300 --doc)
file(GLOB files RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}/tests" CONFIGURE_DEPENDS
  "${CMAKE_CURRENT_SOURCE_DIR}/tests/*.rs" "${CMAKE_CURRENT_SOURCE_DIR}/tests/*/main.rs")
foreach(file ${files})
  string(REGEX REPLACE "(/main)?\\.rs$" "" name "${file}")
  if(name MATCHES "kafka")
    kafka_producer_cargo_test(cargo.${name} "rust;kafka" 900 --test ${name})
  else()
    kafka_producer_cargo_test(cargo.${name} rust 300 --test ${name})
  endif()
endforeach()
