import { type Acceptance, defineOperation, type Entry, type Refusal, refuse } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'

export interface Tables {
  note: { id: string; principal: string; text: string; status: string }
  /** What the test tells a steered job to do next. */
  step: { job_id: string; number: number; action: Action }
  /** What a handler wrote in its settle. */
  effect: { job_id: string }
  /** What happened in a handler, whatever became of the job. */
  sighting: { job_id: string; word: string }
}

/** What a steered job can do. */
export type Action =
  | { do: 'progress'; percent: number; message?: string }
  | { do: 'point at'; path: string }
  | { do: 'succeed' }
  | { do: 'fail'; code: string; message: string; status?: number; details?: unknown[] }
  | { do: 'throw'; message: string }

/** A note whose text begins so commits when the test lets it: its commit waits for the advisory lock of the text. */
export const heldAtCommit = 'held at commit'
/** A note with this text makes the commit fail. */
export const failsAtCommit = 'fails at commit'
/** A note with this text is refused with this status. */
export const refusedText = { forbidden: 403, gone: 404 } as const

/** The tables of the app; the set-up of a test file makes them. */
export const schema = `
  create table note (id uuid primary key, principal text not null, text text not null, status text not null);
  create table step (job_id uuid not null, number bigint generated always as identity primary key, action jsonb not null);
  create table effect (job_id uuid not null);
  create table sighting (job_id uuid not null, word text not null);
  create function at_commit() returns trigger language plpgsql as $$
  begin
    if new.text like '${heldAtCommit}%' then
      -- However long others may wait for a lock.
      perform set_config('lock_timeout', '0', true);
      perform pg_advisory_xact_lock(hashtext(new.text));
    elsif new.text = '${failsAtCommit}' then
      raise exception 'the secret of the trigger';
    end if;
    return null;
  end $$;
  create constraint trigger at_commit after insert on note deferrable initially deferred
    for each row execute function at_commit();`

const Text = Type.Object({ text: Type.String() }, { additionalProperties: false })
const Id = Type.Object({ id: Type.String() })

/** Keeps each entry as a note. */
async function keepNotes(
  trx: Transaction<Tables>,
  entries: Entry<{ text: string }, unknown>[],
): Promise<(Acceptance<{ text: string }> | Refusal)[]> {
  await trx
    .insertInto('note')
    .values(entries.map(({ id, principal, input }) => ({ id, principal, text: input.text, status: 'pending' })))
    .execute()
  return entries.map(({ id, input }) => {
    const status = refusedText[input.text as keyof typeof refusedText]
    if (status) return refuse(status, `note-${input.text}`, `The note is ${input.text}`)
    return { payload: input, resource: `/notes/${id}` }
  })
}

/** Settles only, and makes a resource. */
export const createNote = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Text,
  accept: keepNotes,
})

const updateNote = async (_trx: Transaction<Tables>, entries: Entry<{ text: string }, { id: string }>[]) =>
  entries.map(({ params, input }) => ({ payload: input, resource: `/notes/${params.id}` }))

export const replaceNote = defineOperation({
  name: 'note.replace',
  route: { method: 'PUT', url: '/notes/:id' },
  params: Id,
  input: Text,
  accept: updateNote,
})

export const amendNote = defineOperation({
  name: 'note.amend',
  route: { method: 'PATCH', url: '/notes/:id' },
  params: Id,
  input: Text,
  accept: updateNote,
})

export const deleteNote = defineOperation({
  name: 'note.delete',
  route: { method: 'DELETE', url: '/notes/:id' },
  params: Id,
  input: Text,
  accept: updateNote,
})

export const deleteDraft = defineOperation({
  name: 'draft.delete',
  route: { method: 'DELETE', url: '/drafts/:id' },
  params: Id,
  input: Type.Object({ text: Type.Optional(Type.String()) }),
  payload: Id,
  accept: async (_trx, entries) => entries.map(({ params }) => ({ payload: params })),
})

/** Settles only, and answers inline. */
export const sum = defineOperation({
  name: 'sum',
  route: { method: 'POST', url: '/sums' },
  input: Type.Object(
    {
      numbers: Type.Array(Type.Integer()),
      'in/words': Type.Optional(Type.Boolean()),
      label: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  result: Type.Object({ total: Type.Integer() }),
})

/** Answers inline with what it got, or with the member `only` of it. */
export const echo = defineOperation({
  name: 'echo',
  route: { method: 'POST', url: '/echoes' },
  input: Type.Object({ text: Type.Optional(Type.String()) }),
  result: Type.Unknown(),
})

/** Neither a resource nor a result. */
export const quiet = defineOperation({
  name: 'quiet',
  route: { method: 'POST', url: '/quiet' },
  input: Type.Object({}),
})

const Steered = Type.Object({ label: Type.Optional(Type.String()), stubborn: Type.Optional(Type.Boolean()) })
const steering = {
  input: Steered,
  result: Type.Object({ label: Type.String() }),
  retry: { limit: 1, delaySeconds: 0, backoff: false },
  timeoutSeconds: 600,
}

/** Does what the test says, step by step; two attempts. */
export const steered = defineOperation({
  name: 'steered',
  route: { method: 'POST', url: '/steered' },
  ...steering,
})

/** The same; the tests say how long its jobs have run lately. */
export const estimated = defineOperation({
  name: 'estimated',
  route: { method: 'POST', url: '/estimated' },
  ...steering,
})

/** No worker claims it as long as the test does not start one that does. */
export const idle = defineOperation({
  name: 'idle',
  route: { method: 'POST', url: '/idle' },
  input: Text,
  accept: keepNotes,
})

/** Refuses requests without an Idempotency-Key. */
export const keyed = defineOperation({
  name: 'keyed',
  route: { method: 'POST', url: '/keyed' },
  input: Text,
  idempotencyKey: 'required',
})

/** No worker claims it, and one job fills it. */
export const limited = defineOperation({
  name: 'limited',
  route: { method: 'POST', url: '/limited' },
  input: Text,
  maxBacklog: 1,
})

export const bigLimit = 2 * 1024 * 1024

/** Takes a larger body than usual. */
export const big = defineOperation({
  name: 'big',
  route: { method: 'POST', url: '/big' },
  input: Text,
  bodyLimit: bigLimit,
})

/** The operations that the worker of the tests claims. */
export const claimed = [
  createNote,
  replaceNote,
  amendNote,
  deleteNote,
  deleteDraft,
  sum,
  echo,
  quiet,
  steered,
  estimated,
  keyed,
  big,
]
  .map(({ name }) => name)
  .join(',')
