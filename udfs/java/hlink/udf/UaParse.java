package hlink.udf;

import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;
import org.apache.flink.types.Row;

/**
 * {@code UA_PARSE(user_agent)}: what a browser says of itself, as {@code ROW<browser, browser_version, os, os_version,
 * device>}, all texts.
 *
 * <p>It knows WeChat, QQ Browser, UC Browser, Edge, Opera, Samsung Internet, Firefox, Chrome, Safari and Internet Explorer;
 * Windows, Android, iOS, HarmonyOS, macOS, ChromeOS and Linux; and says {@code bot}, {@code tablet}, {@code mobile} or
 * {@code desktop}. What it does not know is NULL; a browser built on another that it does not know by name is called by
 * that other's.
 */
public final class UaParse extends ScalarFunction {
    private static final Pattern BOT =
            Pattern.compile("bot\\b|spider|crawl|slurp|curl/|wget/|python-requests|headless", Pattern.CASE_INSENSITIVE);
    private static final Pattern TABLET = Pattern.compile("iPad|Tablet|PlayBook|Android(?!.*Mobile)");
    private static final Pattern MOBILE = Pattern.compile("Mobi|iPhone|iPod|Android|HarmonyOS");
    /** The first that fits counts: most browsers also carry the names of those that they want to be taken for. */
    private static final Object[][] BROWSERS = {
        rule("WeChat", "MicroMessenger/([\\d.]+)"),
        rule("QQ Browser", "M?QQBrowser/([\\d.]+)"),
        rule("UC Browser", "UC?Browser/([\\d.]+)"),
        rule("Edge", "Edg(?:e|A|iOS)?/([\\d.]+)"),
        rule("Opera", "(?:OPR|OPiOS|Opera)[/ ]([\\d.]+)"),
        rule("Samsung Internet", "SamsungBrowser/([\\d.]+)"),
        rule("Firefox", "(?:Firefox|FxiOS)/([\\d.]+)"),
        rule("Chrome", "(?:Chrome|CriOS)/([\\d.]+)"),
        rule("Internet Explorer", "(?:MSIE |Trident/.*rv:)([\\d.]+)"),
        rule("Safari", "Version/([\\d.]+).*Safari/"),
    };

    private static final Object[][] SYSTEMS = {
        rule("HarmonyOS", "(?:HarmonyOS|OpenHarmony)[ /]?([\\d.]*)"),
        rule("Android", "Android[ /-]?([\\d.]*)"),
        rule("iOS", "(?:iPhone OS|CPU OS|iOS) ([\\d_.]+)"),
        rule("Windows", "Windows(?: NT)? ?([\\d.]*)"),
        rule("ChromeOS", "CrOS \\S+ ([\\d.]+)"),
        rule("macOS", "Mac OS X ?([\\d_.]*)"),
        rule("Linux", "(?:Linux|X11)()"),
    };

    @DataTypeHint("ROW<browser STRING, browser_version STRING, os STRING, os_version STRING, device STRING>")
    public Row eval(String userAgent) {
        if (userAgent == null) {
            return null;
        }
        String[] browser = first(BROWSERS, userAgent);
        String[] system = first(SYSTEMS, userAgent);
        return Row.of(browser[0], browser[1], system[0], system[1], device(userAgent, system[0]));
    }

    private static String device(String userAgent, String system) {
        if (BOT.matcher(userAgent).find()) {
            return "bot";
        }
        if (TABLET.matcher(userAgent).find()) {
            return "tablet";
        }
        if (MOBILE.matcher(userAgent).find()) {
            return "mobile";
        }
        return system == null ? null : "desktop";
    }

    private static Object[] rule(String name, String pattern) {
        return new Object[] {name, Pattern.compile(pattern)};
    }

    private static String[] first(Object[][] rules, String userAgent) {
        for (Object[] rule : rules) {
            Matcher found = ((Pattern) rule[1]).matcher(userAgent);
            if (found.find()) {
                String version = found.group(1).replace('_', '.');
                return new String[] {(String) rule[0], version.isEmpty() ? null : version};
            }
        }
        return new String[2];
    }
}
