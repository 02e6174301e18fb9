"""Where runs are carried out: data and device, folders, processes. It knows nothing of what a run is."""
