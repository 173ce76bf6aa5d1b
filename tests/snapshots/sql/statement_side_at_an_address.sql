INSERT INTO `delays` SELECT f.carrier, p.city.name, delay FROM (SELECT *, PROCTIME() AS `__hlink_proctime` FROM flights) f
LEFT JOIN airports FOR SYSTEM_TIME AS OF `f`.`__hlink_proctime` p ON p.code = f.carrier AND p.country = 'DE' WHERE p.city.people > 9
