import type { Client, Job } from 'accepted/client'
import { useEffect, useState } from 'react'

/** Follows a job while the component is shown. */
export function useJob(client: Pick<Client, 'watch'>, id: string): { job?: Job; error?: unknown } {
  const [state, setState] = useState({})
  useEffect(() => {
    const stop = new AbortController()
    const follow = async () => {
      for await (const job of client.watch(id, { signal: stop.signal })) setState({ job })
    }
    follow().catch((error) => stop.signal.aborted || setState({ error }))
    return () => stop.abort()
  }, [client, id])
  return state
}
