INSERT INTO `delays` SELECT f.carrier, a.name, delay FROM (SELECT *, PROCTIME() AS proctime FROM flights) f JOIN airlines FOR SYSTEM_TIME AS OF f.proctime a ON f.carrier = a.carrier
