"""What a segmentation is worth: numpy and scipy alone.

masks       one mask against one reference: Dice, Hausdorff distance, surface Dice, volumes; honest about empty masks
protocol    what is scored and what an empty mask is worth
scores      ScoreTable, its CSV, and one metric of it as an array
statistics  means with bootstrap intervals, paired differences, Wilcoxon with Holm
robustness  mean against the number of modalities, and the area under that curve
tables      all of it as text and Markdown
"""
