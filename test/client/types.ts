// This file is compiled, but never run. `npm run check:types` fails if an expected error does not occur.
import { createClient, type Job } from 'accepted/client'
import type { operations as describedOperations, paths } from '../clients/paths.ts'
import type * as operations from './operations.ts'

const options = { url: 'https://api.example.com' }

export async function fromDefinitions(): Promise<void> {
  const client = createClient<typeof operations>({ ...options, routes: { idle: 'DELETE /idle' } })
  const counted = await client.submit('words.count', { text: 'a' }, { params: { language: 'en' }, key: 'k' })
  counted.result?.words satisfies number | undefined
  const result = await client.result(counted)
  result.words satisfies number
  // @ts-expect-error the result has no such member
  result.letters
  for await (const job of client.watch(counted)) job.result?.language satisfies string | undefined
  const { result: inline } = await client.wait(counted)
  inline.words satisfies number
  // @ts-expect-error the result has no such member
  inline.letters
  ;(await client.result<{ url: string }>(counted)).url satisfies string
  ;(await client.get(counted)).result?.words satisfies number | undefined
  const note = await client.submit('note.create', { text: 'a' })
  // @ts-expect-error the type of a resource is unknown
  ;(await client.result(note)).id
  ;(await client.result<{ id: string }>(note)).id satisfies string
  ;(await client.result<{ id: string }>(note.id)).id satisfies string
  ;(await client.retry(counted)).result?.words satisfies number | undefined

  // @ts-expect-error no operation has this name
  await client.submit('note.delete', { text: 'a' })
  // @ts-expect-error the input lacks its text
  await client.submit('note.create', {})
  // @ts-expect-error the path parameter is missing
  await client.submit('words.count', { text: 'a' })
  // @ts-expect-error the path parameter has another name
  await client.submit('words.count', { text: 'a' }, { params: { lang: 'en' } })
  // @ts-expect-error the operation has no path parameters
  await client.submit('note.create', { text: 'a' }, { params: { language: 'en' } })
  // @ts-expect-error no operation has this name
  createClient<typeof operations>({ ...options, routes: { 'note.delete': 'DELETE /notes' } })
  // @ts-expect-error a route begins with its method
  createClient<typeof operations>({ ...options, routes: { 'note.create': '/notes' } })

  const batch = await client.submitBatch({
    items: [
      { operation: 'words.count', input: { text: 'a' }, params: { language: 'en' }, key: 'k' },
      { operation: 'note.create', input: { text: 'a' } },
      // @ts-expect-error the input of another operation
      { operation: 'note.create', input: { name: 'a' } },
    ],
    onEnd: { operation: 'idle', input: {} },
  })
  const { items } = { items: [{ operation: 'note.create', input: { text: 'a' } }] } as const
  await client.submitBatch({
    items,
    onEnd: { operation: 'words.count', input: { text: 'a' }, params: { language: 'en' } },
  })
  // @ts-expect-error the API refuses a key at the end
  await client.submitBatch({ items, onEnd: { operation: 'note.create', input: { text: 'a' }, key: 'k' } })
  // @ts-expect-error the input of another operation
  await client.submitBatch({ items, onEnd: { operation: 'note.create', input: { name: 'a' } } })
  ;(await client.result(batch)).succeeded satisfies number
  for await (const child of client.children(batch)) child satisfies Job
}

export async function fromOpenApi(): Promise<void> {
  const named = createClient<describedOperations>(options)
  const job = await named.submit('reminder.send', { email: 'ann@example.com' }, { params: { id: 'x' } })
  ;(await named.result(job)).messageId satisfies string | undefined
  // @ts-expect-error no operation has this name
  await named.submit('getJob', {})
  // @ts-expect-error the input lacks its title
  await named.submit('todo.create', { dueBy: '2030-01-31' })

  const routed = createClient<paths>(options)
  const sent: Job<{ messageId?: string }> = await routed.submit(
    'POST /todos/{id}/reminders',
    { email: 'ann@example.com' },
    { params: { id: 'x' } },
  )
  await routed.submitBatch({ items: [{ operation: 'todo.create', input: { title: sent.id } }] })
  // @ts-expect-error the path parameter is missing
  await routed.submit('POST /todos/{id}/reminders', { email: 'ann@example.com' })
  // @ts-expect-error no operation has this route
  await routed.submit('POST /todo', { title: 'x' })
}

export async function untyped(): Promise<void> {
  const client = createClient(options)
  const job = await client.submit('any.operation', { any: 'input' }, { params: { id: 1 } })
  await client.result(job)
}
