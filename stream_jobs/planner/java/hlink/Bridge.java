package hlink;

import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.calcite.runtime.CalciteContextException;
import org.apache.calcite.sql.SqlCall;
import org.apache.calcite.sql.SqlIdentifier;
import org.apache.calcite.sql.SqlLiteral;
import org.apache.calcite.sql.SqlNode;
import org.apache.calcite.sql.SqlNodeList;
import org.apache.calcite.sql.SqlSelect;
import org.apache.calcite.sql.parser.SqlParserPos;
import org.apache.calcite.sql.util.SqlBasicVisitor;
import org.apache.flink.api.common.JobID;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.configuration.PipelineOptionsInternal;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.configuration.SecurityOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.graph.StreamGraph;
import org.apache.flink.sql.parser.error.SqlValidateException;
import org.apache.flink.table.api.CompiledPlan;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.PlanReference;
import org.apache.flink.table.api.SqlParserException;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.internal.TableEnvironmentImpl;
import org.apache.flink.table.catalog.FunctionCatalog;
import org.apache.flink.table.catalog.UnresolvedIdentifier;
import org.apache.flink.table.operations.ModifyOperation;
import org.apache.flink.table.operations.Operation;
import org.apache.flink.table.planner.calcite.FlinkPlannerImpl;
import org.apache.flink.table.planner.delegation.PlannerBase;
import org.apache.flink.table.planner.plan.nodes.exec.ExecNodeContext;
import org.apache.flink.table.planner.functions.sql.FlinkSqlOperatorTable;

/**
 * The planner's side of one request: a whole step in Java, so that Python crosses the process border once for it.
 *
 * <p>Tables live in a database of their own for each distinct set of CREATE TABLE statements, named by the caller; a
 * set that was seen before costs nothing. Requests come one at a time.
 */
public final class Bridge {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String PUBLISHED_DATABASE = "default_database";
    private static final long LOOK_MS = 20;
    /** Graphs that wait for their submissions: what is started at one time, not more, as passwords are in them. */
    private static final int MOST_GRAPHS = 8;
    /** The options that say where a job goes, and as which: the graph is made without them. */
    private static final Set<String> TARGET =
            Set.of(
                    PipelineOptionsInternal.PIPELINE_FIXED_JOB_ID.key(),
                    RestOptions.ADDRESS.key(),
                    RestOptions.PORT.key(),
                    RestOptions.PATH.key(),
                    SecurityOptions.SSL_REST_ENABLED.key());

    private final OutputStream answers = new FileOutputStream(FileDescriptor.out);
    private final int databaseLimit;
    private final int environmentLimit;
    private final List<String> shippedFunctions;
    /** By the CREATE FUNCTION statements of users' functions, in the order of their last use; the oldest is let go. */
    private final LinkedHashMap<List<String>, Workspace> workspaces = new LinkedHashMap<>(16, 0.75f, true);
    /** The one for jobs without users' functions. */
    private final Workspace plain;

    /** By functions, plan and options, the oldest first: made ahead of their submissions. */
    private final LinkedHashMap<List<Object>, StreamGraph> graphs = new LinkedHashMap<>();

    /** Those of the request that is being answered. */
    private TableEnvironmentImpl environment;

    private LinkedHashMap<String, Integer> databases;

    /**
     * @param settings {@code tableSets} and {@code functionSets}: how many are kept ready; {@code functions}: the CREATE
     *     FUNCTION statements of the functions that every job may call
     */
    public Bridge(byte[] settings) throws Exception {
        JsonNode given = JSON.readTree(settings);
        this.databaseLimit = given.get("table_sets").asInt();
        this.environmentLimit = given.get("function_sets").asInt();
        this.shippedFunctions = texts(given, "functions");
        // What libraries print must not end up between two answers.
        System.setOut(System.err);
        this.plain = new Workspace(List.of());
    }

    /**
     * Answers one request, as a line on this process's standard output; both are JSON.
     *
     * <p>Not as py4j's return value: its socket has Nagle's algorithm on, and an answer of more than one buffer waits 40 ms
     * for the other side's delayed acknowledgement. The request comes as bytes, which py4j handles faster than text.
     */
    public void answer(byte[] request) throws Exception {
        JsonNode asked = JSON.readTree(request);
        Object answer;
        try {
            use(functions(asked));
            answer = answer(asked);
        } catch (FunctionFailure e) {
            answer = failure(e.getCause(), Map.of("function", e.index));
        }
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        JSON.writeValue(line, answer);
        line.write('\n');
        line.writeTo(answers);
    }

    private Object answer(JsonNode asked) {
        switch (asked.get("op").asText()) {
            case "parse":
                List<Object> parsed = new ArrayList<>();
                for (String sql : texts(asked, "statements")) {
                    parsed.add(parse(sql));
                }
                return parsed;
            case "expand_stars":
                return expandStars(text(asked, "database"), texts(asked, "ddl"), text(asked, "statement"));
            case "compile":
                return compile(
                        text(asked, "database"),
                        texts(asked, "ddl"),
                        texts(asked, "inserts"),
                        options(asked),
                        asked.get("with_plan").asBoolean());
            case "explain":
                return explain(text(asked, "database"), texts(asked, "ddl"), texts(asked, "inserts"), options(asked));
            case "check_options":
                return answer("faults", JobOptions.faults(options(asked)));
            case "translate":
                return translate(functions(asked), text(asked, "plan"), options(asked));
            case "execute":
                return execute(functions(asked), text(asked, "plan"), options(asked), text(asked, "authorization"));
            case "preview":
                return preview(
                        text(asked, "plan"),
                        options(asked),
                        asked.get("sinks").asInt(),
                        asked.get("limit").asInt(),
                        asked.get("timeout_ms").asLong());
            case "inspect_savepoint":
                return SavepointFiles.inspect(text(asked, "path"));
            case "newest_checkpoint":
                return SavepointFiles.newestBeside(text(asked, "path"));
            case "inspect_savepoint_in":
                return SavepointFiles.inspectIn(text(asked, "folder"));
            case "remove_savepoint":
                return SavepointFiles.remove(text(asked, "folder"));
            case "create_functions":
                return createFunctions(texts(asked, "names"));
            case "function_names":
                return functionNames();
            default:
                throw new IllegalArgumentException("unknown request " + asked.get("op"));
        }
    }

    /** Makes functions of the environment as a statement that calls them would: classes are loaded, modules imported. */
    private Map<String, Object> createFunctions(List<String> names) {
        FunctionCatalog known = ((PlannerBase) environment.getPlanner()).getFlinkContext().getFunctionCatalog();
        try {
            names.forEach(name -> known.lookupFunction(UnresolvedIdentifier.of(name)).orElseThrow());
            return Map.of();
        } catch (Exception e) {
            return failure(e);
        }
    }

    /** All that can be called without a definition: Flink's functions, Calcite's operators with a name, and ours. */
    private List<String> functionNames() {
        List<String> names = new ArrayList<>(List.of(environment.listFunctions()));
        FlinkSqlOperatorTable.instance(false).getOperatorList().forEach(operator -> names.add(operator.getName()));
        return names;
    }

    private static String text(JsonNode asked, String name) {
        return asked.get(name).asText();
    }

    private static List<String> texts(JsonNode asked, String name) {
        List<String> found = new ArrayList<>();
        asked.get(name).forEach(one -> found.add(one.asText()));
        return found;
    }

    private static List<String> functions(JsonNode asked) {
        return asked.has("functions") ? texts(asked, "functions") : List.of();
    }

    private static Map<String, String> options(JsonNode asked) {
        Map<String, String> found = new LinkedHashMap<>();
        asked.get("options").fields().forEachRemaining(one -> found.put(one.getKey(), one.getValue().asText()));
        return found;
    }

    /** The syntax tree of a statement: kind, position (first line, column, last line, column), names, operands. */
    private Map<String, Object> parse(String sql) {
        try {
            return answer("tree", tree(planner().parser().parse(sql)));
        } catch (Exception e) {
            return failure(e);
        }
    }

    /**
     * What each {@code *} of a statement stands for: for every SELECT that has one, its position and the list of
     * qualified column names that the validator writes in its place.
     */
    private Map<String, Object> expandStars(String database, List<String> ddl, String sql) {
        try (Session ignored = new Session(database, ddl, Map.of())) {
            FlinkPlannerImpl planner = planner();
            SqlNode validated = planner.validate(planner.parser().parse(sql));
            List<Object> selects = new ArrayList<>();
            validated.accept(
                    new SqlBasicVisitor<Void>() {
                        @Override
                        public Void visit(SqlCall call) {
                            if (call instanceof SqlSelect) {
                                selects.add(expandedSelect((SqlSelect) call));
                            }
                            return super.visit(call);
                        }
                    });
            return answer("selects", selects);
        } catch (Exception e) {
            return failure(e);
        }
    }

    /**
     * Plans INSERT statements as one job.
     *
     * @return the compiled plan (without the caller's database name), or the first failure with its statement's index
     */
    private Map<String, Object> compile(
            String database, List<String> ddl, List<String> inserts, Map<String, String> options, boolean withPlan) {
        int index = -1;
        try (Session ignored = new Session(database, ddl, options)) {
            List<ModifyOperation> operations = new ArrayList<>();
            for (String sql : inserts) {
                index++;
                operations.add(modification(sql));
            }
            index = -1;
            CompiledPlan plan;
            // Operators are known by these numbers in savepoints: the same statements must get the same ones again.
            ExecNodeContext.resetIdCounter();
            try {
                plan = environment.compilePlan(operations);
            } catch (Exception e) {
                // The optimizer does not say which statement it gave up on: find the first that fails alone.
                for (index = 0; index < operations.size(); index++) {
                    environment.compilePlan(List.of(operations.get(index)));
                }
                index = -1;
                throw e;
            }
            // The name would otherwise stand in operators' descriptions, and change with every edit of a table.
            String json = withPlan ? plan.asJsonString().replace(database, PUBLISHED_DATABASE) : "";
            return answer("plan", json);
        } catch (Exception e) {
            return failure(e, index < 0 ? Map.of() : Map.of("statement", index));
        }
    }

    /** The optimized plan of INSERT statements, as text for people. */
    private Map<String, Object> explain(String database, List<String> ddl, List<String> inserts, Map<String, String> options) {
        try (Session ignored = new Session(database, ddl, options)) {
            List<Operation> operations = new ArrayList<>();
            for (String sql : inserts) {
                operations.add(modification(sql));
            }
            String text = environment.explainInternal(operations, org.apache.flink.table.api.ExplainFormat.TEXT);
            return answer("explanation", text.replace(database, PUBLISHED_DATABASE));
        } catch (Exception e) {
            return failure(e);
        }
    }

    /**
     * Makes the graph of a compiled plan, for an {@code execute} with the same plan and options that comes soon: a
     * caller that has something else to do before it submits need not wait for this then.
     */
    private Map<String, Object> translate(List<String> functions, String plan, Map<String, String> options) {
        try {
            graphs.put(List.of(functions, plan, options), graph(plan, options));
            if (graphs.size() > MOST_GRAPHS) {
                graphs.remove(graphs.keySet().iterator().next());
            }
            return Map.of();
        } catch (Exception e) {
            return failure(e);
        }
    }

    /**
     * Submits a compiled plan to the cluster that the options name; returns when Flink has accepted the job.
     *
     * <p>A failure says in {@code step} whether the plan could not be read or translated (nothing was sent) or the
     * submission failed.
     */
    private Map<String, Object> execute(
            List<String> functions, String plan, Map<String, String> options, String authorization) {
        Map<String, String> target = new LinkedHashMap<>(options);
        target.keySet().retainAll(TARGET);
        options.keySet().removeAll(TARGET);
        try {
            // Once: a graph is changed by being submitted.
            StreamGraph graph = graphs.remove(List.of(functions, plan, options));
            if (graph == null) {
                graph = graph(plan, options);
            }
            Configuration cluster = environment.getConfig().getConfiguration().clone();
            target.forEach(cluster::setString);
            return answer("jobId", SessionExecutor.submit(graph, cluster, authorization).toString());
        } catch (PlanFailure e) {
            return failure(e.getCause(), Map.of("step", "load"));
        } catch (Exception e) {
            return failure(e, Map.of("step", "submit"));
        }
    }

    private StreamGraph graph(String plan, Map<String, String> options) {
        try (Session ignored = new Session(null, List.of(), options)) {
            environment.loadPlan(PlanReference.fromJsonString(plan)).execute();
            return SessionExecutor.taken();
        } catch (Exception e) {
            throw new PlanFailure(e);
        }
    }

    /**
     * Runs a compiled plan, whose sinks are {@link PreviewTable}s, inside this process.
     *
     * <p>It ends with its sources, when each sink has enough rows, or after the time-out; nothing of it stays.
     */
    private Map<String, Object> preview(
            String plan, Map<String, String> options, int sinks, int limit, long timeoutMs) {
        JobID id = null;
        try (Session ignored = new Session(null, List.of(), options)) {
            long deadline = System.nanoTime() + timeoutMs * 1_000_000;
            TableResult result = environment.loadPlan(PlanReference.fromJsonString(plan)).execute();
            JobClient job = result.getJobClient().orElseThrow();
            id = job.getJobID();
            PreviewRows rows = PreviewRows.of(id);
            CompletableFuture<?> end = job.getJobExecutionResult();
            boolean complete = false;
            while (!complete && !rows.full(sinks, limit) && System.nanoTime() < deadline) {
                try {
                    end.get(LOOK_MS, TimeUnit.MILLISECONDS);
                    complete = true;
                } catch (TimeoutException e) {
                    // it goes on
                }
            }
            if (!complete) {
                job.cancel().get();
            }
            return Map.of("sinks", rows.first(limit), "complete", complete);
        } catch (Exception e) {
            return failure(e);
        } finally {
            if (id != null) {
                PreviewRows.forget(id);
            }
        }
    }

    private ModifyOperation modification(String sql) {
        List<Operation> parsed = environment.getPlanner().getParser().parse(sql);
        if (parsed.size() != 1 || !(parsed.get(0) instanceof ModifyOperation)) {
            throw new IllegalArgumentException("not an INSERT statement");
        }
        return (ModifyOperation) parsed.get(0);
    }

    private FlinkPlannerImpl planner() {
        return ((PlannerBase) environment.getPlanner()).createFlinkPlanner();
    }

    private static Map<String, Object> expandedSelect(SqlSelect select) {
        List<Object> items = new ArrayList<>();
        for (SqlNode item : select.getSelectList()) {
            SqlNode bare = item;
            if (item instanceof SqlCall && "AS".equals(((SqlCall) item).getOperator().getName())) {
                bare = ((SqlCall) item).operand(0);
            }
            Map<String, Object> described = new LinkedHashMap<>();
            described.put("at", position(item.getParserPosition()));
            described.put("names", bare instanceof SqlIdentifier ? ((SqlIdentifier) bare).names : List.of());
            items.add(described);
        }
        return Map.of("at", position(select.getParserPosition()), "items", items);
    }

    private static Object tree(SqlNode node) {
        if (node == null) {
            return null;
        }
        Map<String, Object> described = new LinkedHashMap<>();
        described.put("kind", node.getKind().name());
        described.put("at", position(node.getParserPosition()));
        if (node instanceof SqlIdentifier) {
            described.put("names", ((SqlIdentifier) node).names);
        } else if (node instanceof SqlLiteral) {
            described.put("value", String.valueOf(((SqlLiteral) node).getValue()));
        } else if (node instanceof SqlNodeList) {
            described.put("kind", "LIST");
            described.put("operands", trees(((SqlNodeList) node).getList()));
        } else if (node instanceof SqlCall) {
            SqlCall call = (SqlCall) node;
            described.put("operator", call.getOperator().getName());
            described.put("operands", trees(call.getOperandList()));
        }
        return described;
    }

    private static List<Object> trees(List<? extends SqlNode> nodes) {
        List<Object> described = new ArrayList<>(nodes.size());
        for (SqlNode node : nodes) {
            described.add(tree(node));
        }
        return described;
    }

    private static int[] position(SqlParserPos at) {
        return new int[] {at.getLineNum(), at.getColumnNum(), at.getEndLineNum(), at.getEndColumnNum()};
    }

    private static Map<String, Object> answer(String name, Object value) {
        return Collections.singletonMap(name, value);
    }

    private static Map<String, Object> failure(Throwable thrown) {
        return failure(thrown, Map.of());
    }

    /** The chain of causes, outermost first, with the place in the SQL where the parser or the validator names one. */
    private static Map<String, Object> failure(Throwable thrown, Map<String, Object> more) {
        Map<String, Object> described = new LinkedHashMap<>(more);
        if (thrown instanceof DdlFailure) {
            described.put("ddl", ((DdlFailure) thrown).index);
            thrown = thrown.getCause();
        }
        List<Object> causes = new ArrayList<>();
        for (Throwable cause = thrown; cause != null && causes.size() < 20; cause = cause.getCause()) {
            causes.add(Map.of("type", cause.getClass().getName(), "message", String.valueOf(cause.getMessage())));
            int[] at = place(cause);
            if (at != null) {
                described.put("at", at);
            }
        }
        described.put("causes", causes);
        return answer("error", described);
    }

    private static int[] place(Throwable cause) {
        if (cause instanceof CalciteContextException) {
            CalciteContextException at = (CalciteContextException) cause;
            return at.getPosLine() == 0
                    ? null
                    : new int[] {at.getPosLine(), at.getPosColumn(), at.getEndPosLine(), at.getEndPosColumn()};
        }
        if (cause instanceof org.apache.calcite.sql.parser.SqlParseException) {
            SqlParserPos at = ((org.apache.calcite.sql.parser.SqlParseException) cause).getPos();
            return at == null ? null : position(at);
        }
        if (cause instanceof SqlValidateException) {
            SqlParserPos at = ((SqlValidateException) cause).getErrorPosition();
            return at == null ? null : position(at);
        }
        return null;
    }

    /** Makes the environment with these functions the one of this request. */
    private void use(List<String> functions) {
        Workspace workspace = functions.isEmpty() ? plain : workspaces.get(functions);
        if (workspace == null) {
            workspace = new Workspace(functions);
            workspaces.put(functions, workspace);
            if (workspaces.size() > environmentLimit) {
                workspaces.remove(workspaces.keySet().iterator().next());
            }
        }
        environment = workspace.environment;
        databases = workspace.databases;
    }

    /**
     * A table environment with functions of its own.
     *
     * <p>Its class loader is what keeps two versions of one class apart, and a job brings the jars of all functions that
     * its environment knows: so each set of functions has an environment to itself.
     */
    private final class Workspace {
        private final TableEnvironmentImpl environment =
                (TableEnvironmentImpl)
                        TableEnvironment.create(
                                EnvironmentSettings.newInstance()
                                        .inStreamingMode()
                                        .withConfiguration(GlobalConfiguration.loadConfiguration())
                                        .build());
        /** Databases in the order of their last use; the oldest is dropped when there are too many. */
        private final LinkedHashMap<String, Integer> databases = new LinkedHashMap<>(16, 0.75f, true);

        Workspace(List<String> functions) {
            int index = 0;
            for (String statement : functions) {
                try {
                    environment.executeSql(statement);
                } catch (RuntimeException e) {
                    throw new FunctionFailure(index, e);
                }
                index++;
            }
            shippedFunctions.forEach(environment::executeSql);
        }
    }

    private static final class FunctionFailure extends RuntimeException {
        private final int index;

        FunctionFailure(int index, Throwable cause) {
            super(cause);
            this.index = index;
        }
    }

    private static final class PlanFailure extends RuntimeException {
        PlanFailure(Exception cause) {
            super(cause);
        }
    }

    private static final class DdlFailure extends RuntimeException {
        private final int index;

        DdlFailure(int index, Throwable cause) {
            super(cause);
            this.index = index;
        }
    }

    /** The tables and settings of one request; closing it puts the settings back. */
    private final class Session implements AutoCloseable {
        private final Configuration tables = environment.getConfig().getConfiguration();
        /** Flink copies a job's settings here when it makes the job's graph, and reads here what a later job leaves out. */
        private final Configuration execution =
                (Configuration) ((PlannerBase) environment.getPlanner()).getExecEnv().getConfiguration();

        private final Configuration tablesBefore = tables.clone();
        private final Configuration executionBefore = execution.clone();

        Session(String database, List<String> ddl, Map<String, String> options) {
            try {
                if (database != null) {
                    open(database, ddl);
                }
                options.forEach(environment.getConfig()::set);
            } catch (RuntimeException e) {
                close();
                throw e;
            }
        }

        private void open(String database, List<String> ddl) {
            if (databases.get(database) != null) {
                environment.useDatabase(database);
                return;
            }
            environment.executeSql("CREATE DATABASE IF NOT EXISTS `" + database + "`");
            environment.useDatabase(database);
            int index = 0;
            try {
                for (String statement : ddl) {
                    environment.executeSql(statement);
                    index++;
                }
            } catch (RuntimeException e) {
                environment.useDatabase(PUBLISHED_DATABASE);
                environment.executeSql("DROP DATABASE `" + database + "` CASCADE");
                throw new DdlFailure(index, e);
            }
            databases.put(database, ddl.size());
            if (databases.size() > databaseLimit) {
                String oldest = databases.keySet().iterator().next();
                databases.remove(oldest);
                environment.executeSql("DROP DATABASE `" + oldest + "` CASCADE");
            }
        }

        @Override
        public void close() {
            environment.useDatabase(PUBLISHED_DATABASE);
            restore(tables, tablesBefore);
            restore(execution, executionBefore);
        }

        private void restore(Configuration now, Configuration before) {
            for (String key : new ArrayList<>(now.keySet())) {
                if (!before.containsKey(key)) {
                    now.removeKey(key);
                }
            }
            now.addAll(before);
        }
    }
}
