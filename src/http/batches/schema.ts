import Type, { type TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { batchOperation } from '../../jobs/batch.ts'
import { maxBatchItems } from '../../jobs/enqueue-batch.ts'
import type { Operation } from '../../operation.ts'
import { findViolations } from '../../validation.ts'
import { requestHeaders } from '../protocol/headers.ts'
import { Problem } from '../protocol/problem.ts'
import { acceptedHeaders, bodyResponse, endedResponse, monitorResponse, problemResponses } from '../protocol/schemas.ts'
import { ndjsonMediaType } from './body.ts'
import { Key } from './check.ts'

const closed = { additionalProperties: false }

/** Describes the route that accepts batches, for the OpenAPI document. */
export function batchSchema(operations: ReadonlyMap<string, Operation>) {
  const routed = [...operations.values()].filter(({ route }) => route)
  const item = Type.Union(routed.map(toItem))
  const others = {
    onEnd: Type.Optional(
      Type.Object(
        {
          operation: Type.Enum(routed.map(({ name }) => name)),
          input: Type.Optional(Type.Unknown({ description: 'The input of the operation' })),
          params: Type.Optional(Type.Object({}, { description: 'The path parameters of the operation' })),
        },
        { ...closed, description: 'The job to enqueue when the batch ends, whatever its end is' },
      ),
    ),
    allowFailures: Type.Optional(
      Type.Boolean({ description: 'Whether the batch succeeds although jobs fail or are canceled', default: false }),
    ),
  }
  const items = Type.Array(item, { minItems: 1, maxItems: maxBatchItems })
  const example = exampleOf(routed.map(toItem))
  return {
    summary: 'Submit many jobs in one request',
    description:
      `Up to ${maxBatchItems} jobs, of any operations that have a route. All of them are stored, or none. The batch ` +
      'is a job itself. It ends when its last job has ended, and fails with `children-failed` if a job fails or is ' +
      'canceled, unless `allowFailures`. Canceling it cancels its jobs. `links.children` lists its jobs. In ' +
      `\`${ndjsonMediaType}\`, each line is an item; \`onEnd\` and \`allowFailures\` may precede them in a line of ` +
      'their own. Pointers in errors count the items from 0.',
    operationId: 'submitBatch',
    tags: ['operations'],
    body: {
      content: {
        'application/json': {
          schema: Type.Object(
            { items, ...others },
            { ...closed, title: 'Batch', ...(example && { examples: [example] }) },
          ),
        },
        [ndjsonMediaType]: {
          schema: Type.String({
            description: 'Lines of JSON: each is an item of a Batch. A first line without `operation` holds the rest.',
            ...(example && { examples: [`{"allowFailures":true}\n${JSON.stringify(example.items[0])}\n`] }),
          }),
        },
      },
    },
    headers: requestHeaders('prefer', 'idempotency-key', 'accepted-webhook', 'traceparent', 'tracestate'),
    response: {
      200: endedResponse(batchOperation),
      202: monitorResponse('The batch and its jobs are committed', { headers: acceptedHeaders }),
      ...problemResponses(
        ...(['malformed-json', 'invalid-body', 'invalid-idempotency-key', 'unknown-webhook'] as const),
        ...(['idempotency-key-locked', 'idempotency-key-reused'] as const),
        ...(['body-too-large', 'unsupported-media-type', 'backlog-full', 'principal-backlog-full'] as const),
      ),
      '4xx': bodyResponse('An operation refused an item', 'application/problem+json', Problem),
    },
  }
}

/** Makes an example with the first operation for which a valid input can be made. */
function exampleOf(items: readonly TSchema[]): { items: [unknown] } | undefined {
  for (const schema of items) {
    try {
      const value = Value.Create(schema)
      if (findViolations(schema, value).length === 0) return { items: [value] }
    } catch {
      // There is no value for a pattern, for example.
    }
  }
}

function toItem({ name, schemas, idempotencyKey, route }: Operation): TSchema {
  return Type.Object(
    {
      operation: Type.Literal(name),
      input: route?.method === 'DELETE' ? Type.Optional(schemas.input) : schemas.input,
      ...(schemas.params && { params: schemas.params }),
      key: idempotencyKey === 'required' ? Key : Type.Optional(Key),
    },
    closed,
  )
}
