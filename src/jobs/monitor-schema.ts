import Type, { type Static } from 'typebox'

const Timestamp = (description: string) => Type.String({ format: 'date-time', description })
const Url = (description: string) => Type.String({ format: 'uri', description })

/** The HTTP representation of a job's status. Members without a value are absent. */
export const Monitor = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'UUIDv7' }),
    operation: Type.String(),
    status: Type.Enum(['queued', 'running', 'succeeded', 'failed', 'canceled']),
    createdAt: Timestamp('When the request was accepted'),
    startedAt: Type.Optional(Timestamp('When the first attempt started')),
    updatedAt: Timestamp('When sequence last increased'),
    endedAt: Type.Optional(Timestamp('When the job reached its final status')),
    expiresAt: Timestamp('When the record expires (410 from then on); extended when the job ends'),
    percentComplete: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 100, description: 'Never decreases; absent when unknown' }),
    ),
    message: Type.Optional(Type.String({ description: 'The latest progress message, for people' })),
    estimatedCompletionAt: Type.Optional(
      Timestamp(
        'The estimated end of a running job, from its progress or else from the average run time of its operation',
      ),
    ),
    attempt: Type.Integer({
      minimum: 0,
      description: 'Number of the current or last attempt, from 1; 0 until the job is first claimed',
    }),
    maxAttempts: Type.Integer({ minimum: 1, description: 'The job fails after this many failed attempts' }),
    sequence: Type.Integer({ minimum: 1, description: 'Increases with every visible change' }),
    cancelRequested: Type.Boolean({ description: 'Whether cancellation has been requested' }),
    resourceLocation: Type.Optional(Url('Once succeeded, if the operation creates a resource')),
    result: Type.Optional(Type.Unknown({ description: 'Once succeeded, if the operation returns a result' })),
    error: Type.Optional(
      Type.Object(
        {
          code: Type.String(),
          message: Type.String(),
          details: Type.Optional(
            Type.Array(Type.Unknown(), {
              description:
                'The details that the handler has given. With the code children-failed: the child that failed first, ' +
                'with id, href, operation, status and error',
            }),
          ),
        },
        { description: 'Once failed' },
      ),
    ),
    coalesced: Type.Optional(
      Type.Integer({
        minimum: 1,
        description: 'How many further requests share the job, if its operation coalesces requests',
      }),
    ),
    retryOf: Type.Optional(Type.String({ format: 'uuid', description: 'The id of the job that this job retries' })),
    parent: Type.Optional(
      Type.String({ format: 'uuid', description: 'The id of the batch or job of which this job is a child' }),
    ),
    children: Type.Optional(
      Type.Object(
        { total: Type.Integer(), succeeded: Type.Integer(), failed: Type.Integer(), canceled: Type.Integer() },
        { description: 'How many children the job has. A child that is retried counts once.' },
      ),
    ),
    waitingFor: Type.Optional(
      Type.Array(Type.String({ format: 'uuid' }), { description: 'The jobs that must end before this job starts' }),
    ),
    nextAttemptAt: Type.Optional(
      Timestamp('The earliest start of a queued job that is deferred, waits for its retry or waits for a rate limit'),
    ),
    lastError: Type.Optional(
      Type.Object(
        { code: Type.String(), message: Type.String() },
        { description: 'Why the last attempt of a queued job failed' },
      ),
    ),
    links: Type.Object({
      self: Url('The status URL'),
      result: Url('The result URL'),
      events: Url('Server-sent events: every change until the job ends'),
      cancel: Url('POST to cancel the job'),
      retry: Url('POST to run the job again as a new job, once it has failed or been canceled'),
      children: Type.Optional(Url('The list of the children, if the job has any')),
    }),
  },
  { title: 'Job', description: 'The status of a job' },
)

export type Monitor = Static<typeof Monitor>

/** The data of a `progress` event: the members of the status document that a progress report changes. */
export const Progress = Type.Pick(Monitor, ['percentComplete', 'message', 'estimatedCompletionAt', 'sequence'])

export type Progress = Static<typeof Progress>
