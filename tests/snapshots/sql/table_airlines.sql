CREATE TABLE `airlines` (
  `carrier` STRING,
  `name` STRING
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://db:5432/air',
  'table-name' = 'airlines',
  'username' = 'reader',
  'password' = '${secret:airlines.password}',
  'lookup.max-retries' = '3',
  'lookup.cache' = 'PARTIAL',
  'lookup.partial-cache.max-rows' = '100000',
  'lookup.partial-cache.expire-after-write' = '60000 ms'
)
