# What all interface packages do: find the generators in the one order that works, generate, export.
# `rosidl_default_generators` is not on PyPI, so its members are named here.
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
# One file to compile per library: most of the time goes into the same headers.
set(CMAKE_UNITY_BUILD ON)
set(CMAKE_UNITY_BUILD_BATCH_SIZE 0)
set(GENERATORS
  ament_cmake rosidl_cmake rosidl_generator_type_description
  rosidl_generator_c rosidl_generator_cpp
  rosidl_typesupport_fastrtps_c rosidl_typesupport_fastrtps_cpp
  rosidl_typesupport_introspection_c
  rosidl_typesupport_c rosidl_generator_py)
foreach(generator ${GENERATORS})
  find_package(${generator} REQUIRED)
endforeach()

# The wheels carry include paths of the machine they were built on, which CMake refuses.
function(clear_foreign_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target ${targets})
    if(target MATCHES "__rosidl_generator_py$")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "")
    endif()
  endforeach()
endfunction()

macro(generate_interfaces files dependencies)
  foreach(dependency ${dependencies})
    find_package(${dependency} REQUIRED)
  endforeach()
  clear_foreign_includes()
  rosidl_generate_interfaces(${PROJECT_NAME} ${files} DEPENDENCIES ${dependencies})
  # The descriptions of messages use the same names in every file.
  set_target_properties(${PROJECT_NAME}__rosidl_generator_c PROPERTIES UNITY_BUILD OFF)
  ament_export_dependencies(rosidl_default_runtime)
  ament_package()
endmacro()
