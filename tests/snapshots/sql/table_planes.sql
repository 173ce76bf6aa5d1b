CREATE TABLE `planes` (
  `tail` STRING,
  `built` INT
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:mysql://db:3306/air',
  'table-name' = 'planes',
  'username' = 'reader',
  'password' = '${secret:planes.password}',
  'lookup.max-retries' = '3'
)
