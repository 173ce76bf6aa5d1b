package hlink.udf;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code HASH_ID(value, salt)}: a stable pseudonym of an identifier, the HMAC-SHA-256 of its UTF-8 text under the salt, in
 * 64 hex digits. Without the salt nobody can find the identifier by trying all there are. NULL stays NULL.
 */
public final class HashId extends ScalarFunction {
    private transient Mac mac;
    private transient String keyed;

    public String eval(String value, String salt) throws GeneralSecurityException {
        if (value == null || salt == null) {
            return null;
        }
        if (salt.isEmpty()) {
            throw new IllegalArgumentException("HASH_ID needs a salt that is not empty");
        }
        if (!salt.equals(keyed)) {
            mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(salt.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
            keyed = salt;
        }
        return HexFormat.of().formatHex(mac.doFinal(value.getBytes(StandardCharsets.UTF_8)));
    }
}
