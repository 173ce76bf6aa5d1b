package hlink;

import java.lang.reflect.Method;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.common.JobID;
import org.apache.flink.api.dag.Pipeline;
import org.apache.flink.client.deployment.ClusterClientJobClientAdapter;
import org.apache.flink.client.deployment.StandaloneClusterId;
import org.apache.flink.client.deployment.executors.PipelineExecutorUtils;
import org.apache.flink.client.program.rest.RestClusterClient;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.DeploymentOptions;
import org.apache.flink.configuration.PipelineOptionsInternal;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.configuration.SecurityOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.PipelineExecutor;
import org.apache.flink.core.execution.PipelineExecutorFactory;
import org.apache.flink.runtime.rest.HttpHeader;
import org.apache.flink.streaming.api.graph.StreamGraph;

/**
 * Submits to a running cluster, in two steps: as {@code execution.target: hlink} it takes the job's graph, which is
 * submitted afterwards, and may be made before it is known which job it becomes.
 *
 * <p>Flink's own executor for this makes a client for each submission and then polls, 50 ms apart, until the job is
 * initialised. Here a cluster's client is kept, and the submission is over when the JobManager has accepted it: the
 * supervisor observes the job anyway, and would be the one to act on a failed initialisation.
 */
public final class SessionExecutor implements PipelineExecutor {
    static final String NAME = "hlink";
    private static final int MOST_CLIENTS = 16;
    /** The graph that was made last; requests come one at a time. */
    private static StreamGraph made;
    /** By address and login, in the order of last use. */
    private static final Map<String, RestClusterClient<StandaloneClusterId>> CLIENTS =
            new LinkedHashMap<>(16, 0.75f, true);

    @Override
    public CompletableFuture<JobClient> execute(Pipeline pipeline, Configuration settings, ClassLoader userClasses)
            throws Exception {
        StreamGraph graph = PipelineExecutorUtils.getStreamGraph(pipeline, settings);
        graph.serializeUserDefinedInstances();
        made = graph;
        return CompletableFuture.completedFuture(
                new ClusterClientJobClientAdapter<>(() -> null, graph.getJobID(), userClasses));
    }

    /** The graph of the job that was just executed. */
    static StreamGraph taken() {
        StreamGraph graph = made;
        made = null;
        return graph;
    }

    /**
     * Submits a graph; returns when Flink has accepted it.
     *
     * @param cluster where it is, in Flink's options, and the job's id
     * @param authorization what is sent as the header of that name; empty for none. Not a setting of Flink: those become
     *     part of the job, and are shown with it
     */
    static JobID submit(StreamGraph graph, Configuration cluster, String authorization) throws Exception {
        cluster.getOptional(PipelineOptionsInternal.PIPELINE_FIXED_JOB_ID)
                .ifPresent(id -> graph.setJobId(JobID.fromHexString(id)));
        return client(cluster, authorization).submitJob(graph).get();
    }

    private static RestClusterClient<StandaloneClusterId> client(
            Configuration settings, String authorization) throws Exception {
        String address =
                settings.get(SecurityOptions.SSL_REST_ENABLED)
                        + " "
                        + settings.get(RestOptions.ADDRESS)
                        + ":"
                        + settings.get(RestOptions.PORT)
                        + settings.get(RestOptions.PATH)
                        + " "
                        + authorization;
        RestClusterClient<StandaloneClusterId> client = CLIENTS.get(address);
        if (client == null) {
            client = new RestClusterClient<>(new Configuration(settings), StandaloneClusterId.getInstance());
            if (!authorization.isEmpty()) {
                // Flink takes headers from an environment variable only, the same for all clusters.
                Method headers = RestClusterClient.class.getDeclaredMethod("getCustomHttpHeaders");
                headers.setAccessible(true);
                @SuppressWarnings("unchecked")
                Collection<HttpHeader> sent = (Collection<HttpHeader>) headers.invoke(client);
                sent.add(new HttpHeader("Authorization", authorization));
            }
            CLIENTS.put(address, client);
            if (CLIENTS.size() > MOST_CLIENTS) {
                String oldest = CLIENTS.keySet().iterator().next();
                CLIENTS.remove(oldest).close();
            }
        }
        return client;
    }

    /** Found by Flink through {@code META-INF/services}. */
    public static final class Factory implements PipelineExecutorFactory {
        @Override
        public String getName() {
            return NAME;
        }

        @Override
        public boolean isCompatibleWith(Configuration settings) {
            return NAME.equalsIgnoreCase(settings.get(DeploymentOptions.TARGET));
        }

        @Override
        public PipelineExecutor getExecutor(Configuration settings) {
            return new SessionExecutor();
        }
    }
}
