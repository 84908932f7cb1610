// Made by `npm run openapi:types` from the OpenAPI document of the example app: do not edit.
// biome-ignore-all format: made by a program
// biome-ignore-all lint: made by a program
// biome-ignore-all assist: made by a program

export interface paths {
    "/jobs/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The status of a job */
        get: operations["getJob"];
        put?: never;
        post?: never;
        /**
         * Cancel a job
         * @description One that waits is canceled at once (200); the handler of one that runs is told (202).
         */
        delete: operations["deleteJob"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs/{id}/result": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Where a job led
         * @description 202 while the job is pending; then 303 to the resource, or the inline result, or why there is none.
         */
        get: operations["getJobResult"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Your jobs, newest first
         * @description A page that filters may be short, or empty, and still have a nextLink.
         */
        get: operations["listJobs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs/{id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The changes of a job, until its end */
        get: operations["getJobEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * The changes of all your jobs
         * @description Begins with your newest 100 jobs, then goes on for ever.
         */
        get: operations["getEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/todos": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The newest todos */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Default Response */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": {
                            /** Format: uuid */
                            id: string;
                            title: string;
                            /** Format: date */
                            dueBy?: string;
                            /** @enum {unknown} */
                            status: "pending" | "ready";
                        }[];
                    };
                };
            };
        };
        put?: never;
        /** Create a todo */
        post: operations["todo.create"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/todos/{id}/reminders": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Send a reminder of a todo by e-mail */
        post: operations["reminder.send"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs/{id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Cancel a job
         * @description One that waits is canceled at once (200); the handler of one that runs is told (202).
         */
        post: operations["cancelJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs/{id}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Run a failed or canceled job again, as a new job */
        post: operations["retryJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/webhooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Every endpoint, without its secrets */
        get: operations["listWebhooks"];
        put?: never;
        /** Register an endpoint that is told when jobs end */
        post: operations["createWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/webhooks/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An endpoint, without its secrets */
        get: operations["getWebhook"];
        put?: never;
        post?: never;
        /** Remove an endpoint; what is on its way to it is not delivered */
        delete: operations["removeWebhook"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/webhooks/{id}/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A new secret; the one before goes on signing for a day */
        post: operations["rotateWebhookSecret"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/todos/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A todo */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Default Response */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": {
                            /** Format: uuid */
                            id: string;
                            title: string;
                            /** Format: date */
                            dueBy?: string;
                            /** @enum {unknown} */
                            status: "pending" | "ready";
                        };
                    };
                };
                /** @description Default Response */
                404: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": {
                            error: {
                                code: string;
                                message: string;
                            };
                        };
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export interface webhooks {
    jobEnded: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A job has ended */
        post: operations["jobEnded"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export interface components {
    schemas: {
        /**
         * Job
         * @description The status of a job
         */
        Job: {
            /**
             * Format: uuid
             * @description UUIDv7
             */
            id: string;
            operation: string;
            /** @enum {unknown} */
            status: "queued" | "running" | "succeeded" | "failed" | "canceled";
            /**
             * Format: date-time
             * @description When the request was accepted
             */
            createdAt: string;
            /**
             * Format: date-time
             * @description When the first attempt began
             */
            startedAt?: string;
            /**
             * Format: date-time
             * @description When sequence last grew
             */
            updatedAt: string;
            /**
             * Format: date-time
             * @description When the job reached its final state
             */
            endedAt?: string;
            /**
             * Format: date-time
             * @description From then on the record is gone (410); set anew when the job ends
             */
            expiresAt: string;
            /** @description Never decreases; absent when unknown */
            percentComplete?: number;
            /** @description Progress in words */
            message?: string;
            /**
             * Format: date-time
             * @description While running: by its own progress, else by how long others of its operation ran
             */
            estimatedCompletionAt?: string;
            /** @description From 1; 0 until first claimed */
            attempt: number;
            maxAttempts: number;
            /** @description Grows with every visible change */
            sequence: number;
            cancelRequested: boolean;
            /**
             * Format: uri
             * @description Once succeeded, when the operation names a resource
             */
            resourceLocation?: string;
            /** @description Once succeeded, when the operation returns one */
            result?: unknown;
            /** @description Once failed */
            error?: {
                code: string;
                message: string;
                details?: unknown[];
            };
            /** Format: uuid */
            retryOf?: string;
            links: {
                /**
                 * Format: uri
                 * @description The monitor
                 */
                self: string;
                /**
                 * Format: uri
                 * @description The result
                 */
                result: string;
                /**
                 * Format: uri
                 * @description Server-sent events: every change until the end
                 */
                events: string;
                /**
                 * Format: uri
                 * @description POST here to cancel
                 */
                cancel: string;
                /**
                 * Format: uri
                 * @description POST here to run it again as a new job, once failed or canceled
                 */
                retry: string;
            };
        };
        /** Problem */
        Problem: {
            /** Format: uri-reference */
            type: string;
            title: string;
            detail?: string;
            /** Format: uri-reference */
            instance?: string;
            error: {
                code: string;
                message: string;
                details?: unknown[];
            };
        };
        /** Ended */
        Ended: {
            /** Format: uri-reference */
            type: string;
            title: string;
            detail?: string;
            /** Format: uri-reference */
            instance?: string;
            error: {
                code: string;
                message: string;
                details?: unknown[];
            };
            job?: components["schemas"]["Job"];
        };
        /** Jobs */
        Jobs: {
            value: components["schemas"]["Job"][];
            /**
             * Format: uri
             * @description The next page, of older jobs; absent on the last
             */
            nextLink?: string;
        };
        /** WebhookEndpointWithSecret */
        WebhookEndpointWithSecret: {
            /**
             * Format: uuid
             * @description UUIDv7
             */
            id: string;
            /** Format: uri */
            url: string;
            eventTypes: ("job.succeeded" | "job.failed" | "job.canceled")[];
            /** @description Absent: all */
            operations?: string[];
            /** Format: date-time */
            createdAt: string;
            /**
             * Format: date-time
             * @description From then on nothing is delivered
             */
            disabledAt?: string;
            disabledReason?: string;
            /** @description Verifies signatures (Standard Webhooks); shown this once */
            secret: string;
        };
        /**
         * JobEvent
         * @description CloudEvents 1.0
         */
        JobEvent: {
            /** @constant */
            specversion: "1.0";
            /** @description The same state of a job has the same id */
            id: string;
            /** Format: uri-reference */
            source: string;
            /** @enum {unknown} */
            type: "job.queued" | "job.running" | "job.succeeded" | "job.failed" | "job.canceled";
            /**
             * Format: uuid
             * @description The id of the job
             */
            subject: string;
            /** Format: date-time */
            time: string;
            /** @constant */
            datacontenttype: "application/json";
            data: components["schemas"]["Job"];
        };
        /** WebhookEndpoint */
        WebhookEndpoint: {
            /**
             * Format: uuid
             * @description UUIDv7
             */
            id: string;
            /** Format: uri */
            url: string;
            eventTypes: ("job.succeeded" | "job.failed" | "job.canceled")[];
            /** @description Absent: all */
            operations?: string[];
            /** Format: date-time */
            createdAt: string;
            /**
             * Format: date-time
             * @description From then on nothing is delivered
             */
            disabledAt?: string;
            disabledReason?: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    getJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description RFC 7240: `wait=<seconds>`, `return=minimal`, `return=representation`, `respond-async` */
                prefer?: string;
                /** @description 304, or with `Prefer: wait` a long poll, while this ETag is current */
                "if-none-match"?: string;
            };
            path: {
                /** @description The id of the job */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The status, as JSON, as a live page, or as a stream of events */
            200: {
                headers: {
                    /** @description The sequence of the job, in quotes */
                    ETag?: string;
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                    "text/html": string;
                    "text/event-stream": string;
                };
            };
            /** @description To a stream whose end was told already */
            204: {
                headers: {
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The ETag is still current */
            304: {
                headers: {
                    /** @description The sequence of the job, in quotes */
                    ETag?: string;
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-expired`: The record of this job has expired */
            410: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    deleteJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description 412 when this ETag is not current */
                "if-match"?: string;
            };
            path: {
                /** @description The id of the job */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Canceled, now or before */
            200: {
                headers: {
                    /** @description The sequence of the job, in quotes */
                    ETag?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description It runs, and its handler is told */
            202: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    /** @description The sequence of the job, in quotes */
                    ETag?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-ended`: The job has ended already and cannot be canceled */
            409: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-expired`: The record of this job has expired */
            410: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `precondition-failed`: The job has changed since */
            412: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-locked`: The job is just being settled; `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getJobResult: {
        parameters: {
            query?: never;
            header?: {
                /** @description RFC 7240: `wait=<seconds>`, `return=minimal`, `return=representation`, `respond-async` */
                prefer?: string;
            };
            path: {
                /** @description The id of the job */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Succeeded: the inline result */
            200: {
                headers: {
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description Pending */
            202: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description Succeeded: neither resource nor result */
            204: {
                headers: {
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Succeeded: the resource */
            303: {
                headers: {
                    /** @description Where to go on */
                    Location?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `operation-canceled`: The job was canceled */
            409: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `job-expired`: The record of this job has expired */
            410: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `job-failed`: The job failed */
            424: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Failed, with the status that its handler chose */
            "4XX": {
                headers: {
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Ended"];
                };
            };
        };
    };
    listJobs: {
        parameters: {
            query?: {
                status?: "queued" | "running" | "succeeded" | "failed" | "canceled";
                /** @description The name of an operation */
                operation?: string;
                /** @description Jobs on a page; 20, at most 100 */
                limit?: string;
                /** @description From nextLink */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page */
            200: {
                headers: {
                    /** @description The next page: `<…>; rel="next"` (RFC 8288) */
                    Link?: string;
                    Vary?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Jobs"];
                };
            };
            /** @description `invalid-parameter`: A parameter of the path or the query does not match the schema; `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getJobEvents: {
        parameters: {
            query?: {
                /** @description Like Last-Event-ID, for clients that cannot send it */
                lastEventId?: string;
            };
            header?: {
                /** @description Go on after this event */
                "last-event-id"?: string;
            };
            path: {
                /** @description The id of the job */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Server-sent events: `status` with a job, `progress` with what a report of progress changes; see /asyncapi.json */
            200: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": string;
                };
            };
            /** @description The end was told already; do not connect again */
            204: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-expired`: The record of this job has expired */
            410: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getEvents: {
        parameters: {
            query?: {
                /** @description Like Last-Event-ID, for clients that cannot send it */
                lastEventId?: string;
            };
            header?: {
                /** @description Go on after this event */
                "last-event-id"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Server-sent events: `status` with a job, `progress` with what a report of progress changes; see /asyncapi.json */
            200: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": string;
                };
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `foreign-origin`: A page of another origin may not open a WebSocket here */
            403: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    "todo.create": {
        parameters: {
            query?: never;
            header?: {
                /** @description RFC 7240: `wait=<seconds>`, `return=minimal`, `return=representation`, `respond-async` */
                prefer?: string;
                /** @description The same request under the same key is the same job */
                "idempotency-key"?: string;
                /** @description The id of the one webhook endpoint that is told the end */
                "accepted-webhook"?: string;
                /** @description W3C trace context */
                traceparent?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    title: string;
                    /** Format: date */
                    dueBy?: string;
                };
            };
        };
        responses: {
            /** @description The job has ended in time: its monitor, or with `Prefer: return=representation` its inline result */
            200: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description Accepted, and durable */
            202: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description It has succeeded in time, and `Prefer: return=representation` asked for the resource */
            303: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `malformed-json`: The body is not JSON; `invalid-body`: The body does not match the schema; `invalid-parameter`: A parameter of the path or the query does not match the schema; `invalid-idempotency-key`: The Idempotency-Key is not usable; `unknown-webhook`: Accepted-Webhook names no webhook endpoint; `idempotency-key-required`: This operation needs an Idempotency-Key; `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `idempotency-key-locked`: A request with this Idempotency-Key is still being accepted */
            409: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `body-too-large`: The body is too large */
            413: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unsupported-media-type`: The body has a media type that is not understood here */
            415: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `idempotency-key-reused`: The Idempotency-Key was used for another request */
            422: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `backlog-full`: Too many jobs of this kind are waiting; `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Refused by the operation itself */
            "4XX": {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    "reminder.send": {
        parameters: {
            query?: never;
            header?: {
                /** @description RFC 7240: `wait=<seconds>`, `return=minimal`, `return=representation`, `respond-async` */
                prefer?: string;
                /** @description The same request under the same key is the same job */
                "idempotency-key"?: string;
                /** @description The id of the one webhook endpoint that is told the end */
                "accepted-webhook"?: string;
                /** @description W3C trace context */
                traceparent?: string;
            };
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /** Format: email */
                    email: string;
                };
            };
        };
        responses: {
            /** @description The job has ended in time: its monitor, or with `Prefer: return=representation` its inline result */
            200: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"] | {
                        messageId: string;
                    };
                };
            };
            /** @description Accepted, and durable */
            202: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description It has succeeded in time, and `Prefer: return=representation` asked for the resource */
            303: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `malformed-json`: The body is not JSON; `invalid-body`: The body does not match the schema; `invalid-parameter`: A parameter of the path or the query does not match the schema; `invalid-idempotency-key`: The Idempotency-Key is not usable; `unknown-webhook`: Accepted-Webhook names no webhook endpoint; `idempotency-key-required`: This operation needs an Idempotency-Key; `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `idempotency-key-locked`: A request with this Idempotency-Key is still being accepted */
            409: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `body-too-large`: The body is too large */
            413: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unsupported-media-type`: The body has a media type that is not understood here */
            415: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `idempotency-key-reused`: The Idempotency-Key was used for another request */
            422: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `backlog-full`: Too many jobs of this kind are waiting; `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Refused by the operation itself */
            "4XX": {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cancelJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description 412 when this ETag is not current */
                "if-match"?: string;
            };
            path: {
                /** @description The id of the job */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Canceled, now or before */
            200: {
                headers: {
                    /** @description The sequence of the job, in quotes */
                    ETag?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description It runs, and its handler is told */
            202: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    /** @description The sequence of the job, in quotes */
                    ETag?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-ended`: The job has ended already and cannot be canceled */
            409: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-expired`: The record of this job has expired */
            410: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `precondition-failed`: The job has changed since */
            412: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-locked`: The job is just being settled; `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    retryJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description RFC 7240: `wait=<seconds>`, `return=minimal`, `return=representation`, `respond-async` */
                prefer?: string;
                /** @description The same request under the same key is the same job */
                "idempotency-key"?: string;
                /** @description W3C trace context */
                traceparent?: string;
            };
            path: {
                /** @description The id of the job */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The job has ended in time: its monitor, or with `Prefer: return=representation` its inline result */
            200: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"] | {
                        messageId: string;
                    };
                };
            };
            /** @description A new job */
            202: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description What the body is: the monitor of the job */
                    "Content-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description It has succeeded in time, and `Prefer: return=representation` asked for the resource */
            303: {
                headers: {
                    /** @description The monitor of the job: 200 as long as it exists */
                    "Operation-Location"?: string;
                    /** @description Where to go on */
                    Location?: string;
                    /** @description What of Prefer was honoured (RFC 7240) */
                    "Preference-Applied"?: string;
                    /** @description The job of an earlier request with the same key */
                    "Idempotent-Replayed"?: "true";
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `invalid-idempotency-key`: The Idempotency-Key is not usable; `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-not-retryable`: Only a failed or canceled job can be retried; `idempotency-key-locked`: A request with this Idempotency-Key is still being accepted */
            409: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-expired`: The record of this job has expired */
            410: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `idempotency-key-reused`: The Idempotency-Key was used for another request */
            422: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `job-locked`: The job is just being settled; `backlog-full`: Too many jobs of this kind are waiting; `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listWebhooks: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description All of them */
            200: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        value: components["schemas"]["WebhookEndpoint"][];
                    };
                };
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `forbidden`: This is for administrators */
            403: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    createWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /** @description http or https, without credentials and fragment; deliveries are posted here */
                    url: string;
                    /** @description Default: all */
                    eventTypes?: ("job.succeeded" | "job.failed" | "job.canceled")[];
                    /** @description Default: all */
                    operations?: string[];
                };
            };
        };
        responses: {
            /** @description Registered */
            201: {
                headers: {
                    /** @description Where to go on */
                    Location?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookEndpointWithSecret"];
                };
            };
            /** @description `malformed-json`: The body is not JSON; `invalid-body`: The body does not match the schema; `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `forbidden`: This is for administrators */
            403: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `body-too-large`: The body is too large */
            413: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unsupported-media-type`: The body has a media type that is not understood here */
            415: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The id of the endpoint */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It */
            200: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookEndpoint"];
                };
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `forbidden`: This is for administrators */
            403: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    removeWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The id of the endpoint */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Removed */
            204: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `forbidden`: This is for administrators */
            403: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rotateWebhookSecret: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The id of the endpoint */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Rotated */
            200: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookEndpointWithSecret"];
                };
            };
            /** @description `bad-request`: The request is malformed */
            400: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `unauthenticated`: The request names no known principal */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `forbidden`: This is for administrators */
            403: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-found`: There is nothing here, or nothing of yours */
            404: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `not-acceptable`: There is no representation of the kind that Accept asks for */
            406: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `request-timeout`: The request did not arrive whole in time */
            408: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `too-many-requests`: This principal has sent too many requests */
            429: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `headers-too-large`: The request has too many header fields, or too large ones */
            431: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `internal-error`: Something went wrong here */
            500: {
                headers: {
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description `database-unavailable`: The database does not answer */
            503: {
                headers: {
                    /** @description Seconds until it is worth asking again */
                    "Retry-After"?: number;
                    "Cache-Control"?: string;
                    /** @description What is left of the quota, and in how many seconds it is renewed */
                    RateLimit?: string;
                    /** @description The quota and its window in seconds */
                    "RateLimit-Policy"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    jobEnded: {
        parameters: {
            query?: never;
            header: {
                /** @description The same over all attempts of a delivery: de-duplicate by it */
                "webhook-id": string;
                /** @description When this attempt was made, in seconds since 1970 */
                "webhook-timestamp": number;
                /** @description One signature per active secret, separated by spaces */
                "webhook-signature": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/cloudevents+json": components["schemas"]["JobEvent"];
            };
        };
        responses: {
            /** @description No more, please: the endpoint is disabled. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Received. It need not be processed yet. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Not received: sent again later, after Retry-After at the earliest. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
}
