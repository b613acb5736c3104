# The module reprise_cuda, where nvcc is found. RP_CUDA=OFF leaves it out; RP_CUDA_ARCHS says for which GPUs:
# code for each, and PTX of the newest for those to come.
option(RP_CUDA "build the module reprise_cuda where nvcc is found" ON)
option(RP_CUDA_PLAIN "leave the PTX in reprise_cuda as text, which scripts/check-ptx reads" OFF)
set(RP_CUDA_ARCHS "80;90;100" CACHE STRING "compute capabilities that reprise_cuda has code for")
file(GLOB RP_CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)

# The ops themselves (shapes, checks) go into a module a second time: it calls nothing of the program.
file(GLOB RP_OP_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.c)
set(RP_MODULE_ERRORS ${CMAKE_SOURCE_DIR}/runner/base/base.c ${CMAKE_SOURCE_DIR}/runner/base/utf8.c)
add_library(rp_ops OBJECT ${RP_OP_SOURCES})
target_link_libraries(rp_ops PUBLIC rp_options)

# Portable arithmetic: no contraction, IEEE division and root, subnormals kept.
set(RP_CUDA_FLAGS -fmad=false -prec-div=true -prec-sqrt=true -ftz=false)

find_program(RP_NVCC nvcc HINTS $ENV{CUDACXX} $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin PATHS /usr/local/cuda/bin)
if(RP_CUDA AND RP_NVCC AND NOT RP_SANITIZE)
  set(CMAKE_CUDA_COMPILER ${RP_NVCC} CACHE FILEPATH "nvcc")
  set(real ${RP_CUDA_ARCHS})
  list(POP_BACK real newest)
  list(TRANSFORM real APPEND -real)
  set(CMAKE_CUDA_ARCHITECTURES ${real} ${newest})
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    list(TRANSFORM RP_CUDA_ARCHS PREPEND sm_ OUTPUT_VARIABLE names)
    string(JOIN " " names ${names})
    string(REGEX MATCH "^[0-9]+\\.[0-9]+" version ${CMAKE_CUDA_COMPILER_VERSION})
    add_library(reprise_cuda MODULE ${RP_CUDA_SOURCES} ${RP_MODULE_ERRORS} $<TARGET_OBJECTS:rp_ops>)
    set_target_properties(reprise_cuda PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
    target_include_directories(reprise_cuda PRIVATE ${CMAKE_SOURCE_DIR}/runner ${CMAKE_SOURCE_DIR}/kernels)
    set(plain $<$<BOOL:${RP_CUDA_PLAIN}>:--no-compress>)
    target_compile_options(reprise_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:${RP_CUDA_FLAGS} ${plain}
      -Xcompiler=-ffp-contract=off,-fvisibility=hidden,-Wall,-Wextra,-Wno-unused-parameter -Werror=cross-execution-space-call>
      $<$<COMPILE_LANGUAGE:C>:-fvisibility=hidden>)
    target_compile_definitions(reprise_cuda PRIVATE RP_CUDA_BUILD="CUDA ${version}, ${names}")
    target_link_options(reprise_cuda PRIVATE -static-libgcc -static-libstdc++ -Wl,--as-needed,-z,defs,--exclude-libs,ALL,-s)
    target_link_libraries(reprise_cuda PRIVATE Threads::Threads)
    install(TARGETS reprise_cuda LIBRARY DESTINATION lib/reprise)

    # The products beside cuBLAS, for scripts/bench: one file that needs the driver only.
    file(GLOB RP_BENCH_CUDA CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/gemm*.cu
      ${CMAKE_SOURCE_DIR}/kernels/cuda/linear*.cu ${CMAKE_SOURCE_DIR}/kernels/cuda/conv2d*.cu)
    add_executable(rp_bench_cuda_gemm EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/bench/bench_cuda_gemm.cu
      ${RP_BENCH_CUDA} $<TARGET_OBJECTS:rp_ops>)
    set_target_properties(rp_bench_cuda_gemm PROPERTIES CUDA_ARCHITECTURES 90 RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_include_directories(rp_bench_cuda_gemm PRIVATE ${CMAKE_SOURCE_DIR}/runner ${CMAKE_SOURCE_DIR}/kernels)
    target_compile_options(rp_bench_cuda_gemm PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:${RP_CUDA_FLAGS}
      -Xcompiler=-ffp-contract=off>)
    target_link_libraries(rp_bench_cuda_gemm PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  endif()
endif()
