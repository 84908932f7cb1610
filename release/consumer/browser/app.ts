// A page that uses the built client: its types must not need those of Node.js.
import { AcceptedError, createClient, type Job } from 'accepted/client'

export async function show(element: HTMLElement): Promise<void> {
  const client = createClient({ url: '/api', headers: async () => ({ authorization: 'key' }), fetch: window.fetch })
  const job: Job = await client.submit('todo.create', {})
  try {
    const signal = AbortSignal.timeout(1_000)
    for await (const { status } of client.watch(job, { signal })) element.textContent = status
  } catch (error) {
    if (error instanceof AcceptedError) element.textContent = error.code
  }
}
