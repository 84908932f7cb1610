import { JobFailed, type Perform } from 'accepted/perform'
import pg from 'pg'
import sharp from 'sharp'
import type { makeThumbnail } from './operation.ts'

/** The longer side of a thumbnail, in pixels. */
const maxSide = 160

/** A small file may hold a huge image. */
const limitInputPixels = 50_000_000

// The child has the environment of the worker. It needs no pool, because it runs one job at a time.
export default (async ({ payload: { attachmentId } }) => {
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
  await client.connect()
  try {
    const { rows } = await client.query('select content from attachment where id = $1', [attachmentId])
    if (!rows[0]) throw new JobFailed('attachment-not-found', `There is no attachment ${attachmentId}`)
    const image = sharp(rows[0].content, { limitInputPixels })
    const resized = image.rotate().resize(maxSide, maxSide, { fit: 'inside', withoutEnlargement: true })
    const content = await resized.webp().toBuffer().catch(refuseImage)
    // Bytes are no part of a result, which is JSON. A second run writes the same, and settle makes it visible.
    await client.query('update thumbnail set content = $2 where attachment_id = $1', [attachmentId, content])
  } finally {
    await client.end()
  }
}) satisfies Perform<typeof makeThumbnail>

/** The next attempt would get the same image. */
function refuseImage(cause: unknown): never {
  throw new JobFailed('image-invalid', 'The attachment is not an image, or it is damaged or too large', { cause })
}
