# The .cu files compiled for this processor, under the simulator: modules that the program opens like the real
# one, through $REPRISE_MODULES. `race` finds accesses that nothing orders, and those outside of device memory.
# Under the preset asan the first is built with AddressSanitizer like all the rest.
#
# Fibers and the thread sanitizer do not go together, and the fuzzers have no use for a device.
option(RP_SIM "the CUDA device on the CPU, and its tests" ON)
if(NOT RP_SIM OR RP_SANITIZE MATCHES "thread|fuzzer")
  return()
endif()
enable_language(CXX)
set(RP_SIM_OPTIMIZE -O2)
set(RP_SIM_SANITIZE "")
if(RP_SANITIZE)
  set(RP_SIM_OPTIMIZE -O1) # -O2 takes minutes over the checks in one tile
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    list(APPEND RP_SIM_OPTIMIZE -fira-region=one) # half the time goes into registers otherwise
  endif()
  set(RP_SIM_SANITIZE -fsanitize=${RP_SANITIZE} ${RP_KERNEL_CHECKS} -fno-omit-frame-pointer -fno-sanitize-recover=all)
endif()
set(RP_SIM_FLAGS -std=gnu++17 ${RP_SIM_OPTIMIZE} -g1 -ffp-contract=off -fno-math-errno -fno-trapping-math -fvisibility=hidden
  -ftls-model=initial-exec -Wall -Wextra -Wno-unknown-pragmas -Wno-missing-field-initializers)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND RP_SIM_FLAGS -mavx2 -mfma)
endif()

# Ranges for profilers want the headers of NVTX, which come with nvcc.
set(RP_SIM_KERNELS ${RP_CUDA_SOURCES})
get_filename_component(RP_NVCC_BIN "${RP_NVCC}" DIRECTORY)
find_path(RP_NVTX_INCLUDE nvtx3/nvToolsExt.h HINTS ${RP_NVCC_BIN}/../include /usr/local/cuda/include)
if(RP_NVTX_INCLUDE)
  # No kernels in it, but atomics of the host, which the race detector does not know.
  set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cuda/ranges.cu PROPERTIES INCLUDE_DIRECTORIES ${RP_NVTX_INCLUDE}
    COMPILE_OPTIONS -fno-sanitize=thread)
else()
  list(REMOVE_ITEM RP_SIM_KERNELS ${CMAKE_SOURCE_DIR}/kernels/cuda/ranges.cu)
  list(APPEND RP_SIM_KERNELS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/absent/ranges.cu)
endif()
file(GLOB RP_SIM_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.cpp)

# The simulator itself; then the kernels, and with both the module.
function(rp_sim name kernel_flags flags)
  add_library(rp_sim_${name}_host OBJECT ${RP_SIM_SOURCES})
  target_compile_options(rp_sim_${name}_host PRIVATE ${RP_SIM_FLAGS} ${flags})
  add_library(rp_sim_${name}_kernels OBJECT ${RP_SIM_KERNELS})
  set_source_files_properties(${RP_SIM_KERNELS} PROPERTIES LANGUAGE CXX)
  target_compile_options(rp_sim_${name}_kernels PRIVATE ${RP_SIM_FLAGS} ${flags} ${kernel_flags} -x c++ -include
    ${CMAKE_CURRENT_SOURCE_DIR}/cuda/sim.h)
  add_library(rp_sim_${name} MODULE $<TARGET_OBJECTS:rp_sim_${name}_kernels> $<TARGET_OBJECTS:rp_sim_${name}_host>
    ${RP_MODULE_ERRORS} $<TARGET_OBJECTS:rp_ops>)
  target_compile_options(rp_sim_${name} PRIVATE -fvisibility=hidden ${flags})
  set_target_properties(rp_sim_${name} PROPERTIES LINKER_LANGUAGE CXX)
  foreach(target rp_sim_${name} rp_sim_${name}_host rp_sim_${name}_kernels)
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/runner ${CMAKE_SOURCE_DIR}/kernels ${CMAKE_CURRENT_SOURCE_DIR}/cuda)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
  endforeach()
  set_target_properties(rp_sim_${name} PROPERTIES PREFIX "" OUTPUT_NAME reprise_cuda
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/${name})
  target_link_libraries(rp_sim_${name} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
endfunction()

rp_sim(sim "" "${RP_SIM_SANITIZE}")
# By its name the stand-in for NCCL finds it.
target_link_options(rp_sim_sim PRIVATE ${RP_SIM_SANITIZE} -Wl,-soname,reprise_cuda.so)
if(NOT RP_SANITIZE)
  rp_sim(race "-fsanitize=thread;-O1" "-DRP_SIM_RACE")
endif()

# What stands in for NCCL among simulated devices, beside them; the module that takes it lies with the others.
add_library(rp_sim_nccl SHARED ${CMAKE_CURRENT_SOURCE_DIR}/cuda/sim_nccl.c)
set_target_properties(rp_sim_nccl PROPERTIES OUTPUT_NAME nccl SUFFIX .so.2 LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/sim)
target_include_directories(rp_sim_nccl PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cuda)
target_link_libraries(rp_sim_nccl PRIVATE rp_options ${CMAKE_DL_LIBS})
add_custom_command(TARGET rp_sim_sim POST_BUILD COMMAND ${CMAKE_COMMAND} -E create_symlink
  $<TARGET_FILE:reprise_nccl> $<TARGET_FILE_DIR:rp_sim_sim>/reprise_nccl.so)
add_dependencies(rp_sim_sim rp_sim_nccl reprise_nccl)

# NCCL's own header and library, where they are: that they are what we say of them.
find_path(RP_NCCL_INCLUDE nccl.h HINTS /usr/local/cuda/include)
find_library(RP_NCCL_LIBRARY nccl HINTS /usr/local/cuda/lib /usr/local/cuda/lib64)
find_path(RP_CUDART_INCLUDE cuda_runtime.h HINTS /usr/local/cuda/include)
if(RP_NCCL_INCLUDE AND RP_NCCL_LIBRARY AND RP_CUDART_INCLUDE AND NOT RP_SANITIZE)
  add_executable(rp_test_nccl_abi ${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_nccl_abi.c ${CMAKE_SOURCE_DIR}/runner/comm/nccl/load.c)
  target_include_directories(rp_test_nccl_abi SYSTEM PRIVATE ${RP_NCCL_INCLUDE} ${RP_CUDART_INCLUDE})
  target_compile_definitions(rp_test_nccl_abi PRIVATE RP_NCCL_FILE="${RP_NCCL_LIBRARY}")
  target_link_libraries(rp_test_nccl_abi PRIVATE rp_options ${RP_NCCL_LIBRARY} ${CMAKE_DL_LIBS})
  add_test(NAME sim/nccl_abi COMMAND rp_test_nccl_abi)
endif()

# The op cases, bit for bit; under other orders of execution (and the race detector) with plain numbers alone.
set(RP_RUNS_ENV "REPRISE=$<TARGET_FILE:reprise>;REPRISE_SOURCE=${CMAKE_SOURCE_DIR};PYTHONDONTWRITEBYTECODE=1")
foreach(part 0 1)
  add_test(NAME ops/sim_${part} COMMAND rp_test_ops --module $<TARGET_FILE:rp_sim_sim> compare)
  set_tests_properties(ops/sim_${part} PROPERTIES TIMEOUT 1800 ENVIRONMENT "RP_PART=${part}/2;${RP_OPS_ENV}")
endforeach()
add_test(NAME ops/sim_elementary COMMAND rp_test_ops --module $<TARGET_FILE:rp_sim_sim> elementary)
set_tests_properties(ops/sim_elementary PROPERTIES TIMEOUT 1800)
if(RP_SANITIZE)
  set_tests_properties(ops/sim_0 ops/sim_1 ops/sim_elementary PROPERTIES LABELS long)
else()
  # In ascending order under the race detector, which compares too; in descending order without.
  add_test(NAME sim/race COMMAND rp_test_ops --module $<TARGET_FILE:rp_sim_race> compare)
  add_test(NAME sim/order COMMAND rp_test_ops --module $<TARGET_FILE:rp_sim_sim> compare)
  add_test(NAME long/race COMMAND rp_test_ops --module $<TARGET_FILE:rp_sim_race> compare)
  set_tests_properties(sim/race PROPERTIES TIMEOUT 1800 ENVIRONMENT "RP_SIM_SEED=0;RP_SIM_WATCH=8;RP_LEVELS=1")
  set_tests_properties(sim/order PROPERTIES TIMEOUT 1800 ENVIRONMENT "RP_SIM_SEED=1;RP_LEVELS=1")
  set_tests_properties(long/race PROPERTIES LABELS long TIMEOUT 3600 ENVIRONMENT "RP_SIM_SEED=0;RP_LEVELS=1")
  # Whole runs: tests/gpu/runs.py.
  add_test(NAME sim/runs COMMAND ${RP_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/gpu/runs.py --quick
    --modules $<TARGET_FILE_DIR:rp_sim_sim>)
  add_test(NAME sim/saves COMMAND ${RP_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/gpu/saves.py --modules $<TARGET_FILE_DIR:rp_sim_sim>)
  add_test(NAME sim/sizes COMMAND ${RP_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/gpu/sizes.py --modules $<TARGET_FILE_DIR:rp_sim_sim>
    "gpt2, " control)
  add_test(NAME long/sizes COMMAND ${RP_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/gpu/sizes.py --modules $<TARGET_FILE_DIR:rp_sim_sim>)
  set_tests_properties(long/sizes PROPERTIES LABELS long)
  set_tests_properties(sim/runs sim/saves sim/sizes long/sizes PROPERTIES TIMEOUT 1800 ENVIRONMENT "${RP_RUNS_ENV}")
  if(RP_NVTX_INCLUDE)
    add_library(rp_nvtx_recorder MODULE ${CMAKE_CURRENT_SOURCE_DIR}/cuda/nvtx_recorder.c)
    target_include_directories(rp_nvtx_recorder SYSTEM PRIVATE ${RP_NVTX_INCLUDE})
    add_test(NAME sim/ranges COMMAND ${RP_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/gpu/ranges.py
      --modules $<TARGET_FILE_DIR:rp_sim_sim> --recorder $<TARGET_FILE:rp_nvtx_recorder>)
    set_tests_properties(sim/ranges PROPERTIES TIMEOUT 600 ENVIRONMENT "${RP_RUNS_ENV}")
  endif()
endif()

# Every way of cutting a product; copies of the state and exchanges beside the steps; what a device refuses.
foreach(name gemm save beside rules)
  add_executable(rp_test_cuda_${name} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_cuda_${name}.cu
    $<TARGET_OBJECTS:rp_sim_sim_kernels> $<TARGET_OBJECTS:rp_sim_sim_host> ${RP_MODULE_ERRORS} $<TARGET_OBJECTS:rp_ops>)
  set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_cuda_${name}.cu PROPERTIES LANGUAGE CXX)
  target_compile_options(rp_test_cuda_${name} PRIVATE ${RP_SIM_SANITIZE}
    "$<$<COMPILE_LANGUAGE:CXX>:${RP_SIM_FLAGS};-x;c++;-include;${CMAKE_CURRENT_SOURCE_DIR}/cuda/sim.h>")
  target_include_directories(rp_test_cuda_${name} PRIVATE ${CMAKE_SOURCE_DIR}/runner ${CMAKE_SOURCE_DIR}/kernels
    ${CMAKE_CURRENT_SOURCE_DIR}/cuda ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(rp_test_cuda_${name} PRIVATE _GNU_SOURCE)
  target_link_options(rp_test_cuda_${name} PRIVATE ${RP_SIM_SANITIZE})
  target_link_libraries(rp_test_cuda_${name} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  add_test(NAME sim/${name} COMMAND rp_test_cuda_${name})
endforeach()
set_tests_properties(sim/gemm sim/save sim/beside sim/rules PROPERTIES TIMEOUT 600)

# Under the limits that ptxas says each kernel has.
if(RP_NVCC AND NOT RP_SANITIZE)
  add_test(NAME long/limits COMMAND sh -c "${CMAKE_SOURCE_DIR}/scripts/check-ptx --limits && $<TARGET_FILE:rp_test_ops> --module $<TARGET_FILE:rp_sim_sim> compare")
  set_tests_properties(long/limits PROPERTIES LABELS long TIMEOUT 7200 SKIP_RETURN_CODE 77 ENVIRONMENT
    "RP_SIM_LIMITS=${CMAKE_SOURCE_DIR}/build/ptx/limits.txt;RP_LEVELS=1")
endif()

# Kernels with a fault each: what a build of the simulator does not find of them, it is blind to.
function(rp_sim_control name host kernel_flags flags)
  add_library(rp_sim_wrong_${name} OBJECT ${CMAKE_CURRENT_SOURCE_DIR}/cuda/wrong/wrong_kernels.cu)
  set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/cuda/wrong/wrong_kernels.cu PROPERTIES LANGUAGE CXX)
  target_compile_options(rp_sim_wrong_${name} PRIVATE ${RP_SIM_FLAGS} ${flags} ${kernel_flags} -x c++ -include
    ${CMAKE_CURRENT_SOURCE_DIR}/cuda/sim.h)
  target_include_directories(rp_sim_wrong_${name} PRIVATE ${CMAKE_SOURCE_DIR}/runner ${CMAKE_SOURCE_DIR}/kernels ${CMAKE_CURRENT_SOURCE_DIR}/cuda)
  target_compile_definitions(rp_sim_wrong_${name} PRIVATE _GNU_SOURCE)
  add_executable(rp_test_sim_${name} $<TARGET_OBJECTS:rp_sim_wrong_${name}> $<TARGET_OBJECTS:rp_sim_${host}_host>)
  set_target_properties(rp_test_sim_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(rp_test_sim_${name} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  add_test(NAME sim/wrong_${name} COMMAND rp_test_sim_${name})
endfunction()

if(NOT RP_SANITIZE)
  rp_sim_control(plain sim "" "")
  rp_sim_control(race race "-fsanitize=thread;-O1" "-DRP_SIM_RACE")
endif()
