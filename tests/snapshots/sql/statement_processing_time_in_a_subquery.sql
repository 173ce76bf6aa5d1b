INSERT INTO `delays` SELECT x.carrier, a.name, x.delay FROM (SELECT f.*, PROCTIME() AS pt FROM flights f) x
JOIN airlines FOR SYSTEM_TIME AS OF x.pt a ON a.carrier = x.carrier
