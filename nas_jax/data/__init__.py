"""Images and labels: data sets, their splits in memory or streamed, augmentation."""
