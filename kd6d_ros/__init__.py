"""kd6d_ros: from a mesh to a 6D pose on a ROS 2 topic."""

__version__ = '0.1.0'
