"""A verified log in the formats of others: static tiles, and Parquet for DuckDB, Spark, Ray and their like.

Input: an open log whose every byte was verified; output: a folder that is there as
a whole or not at all. Entry functions: `source.open_verified`, `folder.new_folder`,
`parquet.write_rows`; the tiles are `lineage.tiles`. Only this package imports pyarrow.
"""
