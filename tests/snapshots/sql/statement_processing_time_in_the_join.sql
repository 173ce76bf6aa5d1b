INSERT INTO `delays` SELECT f.carrier, a.name, planes.built + 0E0 FROM (SELECT *, PROCTIME() AS `__hlink_proctime` FROM flights) f
JOIN airlines FOR SYSTEM_TIME AS OF `f`.`__hlink_proctime` a ON a.carrier = f.carrier
JOIN planes FOR SYSTEM_TIME AS OF `f`.`__hlink_proctime` AS `planes` ON planes.tail = f.plane.tail
