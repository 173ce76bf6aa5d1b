INSERT INTO `delays` SELECT flights.carrier, airlines.name, delay
FROM (SELECT *, PROCTIME() AS `__hlink_proctime` FROM flights) AS `flights` JOIN airlines FOR SYSTEM_TIME AS OF `flights`.`__hlink_proctime` AS `airlines` ON flights.carrier = airlines.carrier
