import { join } from 'node:path'
import { type Dependencies, defineHandlers } from 'accepted/worker'
import { addAttachmentHandler } from './attachments/handler.ts'
import { deleteOldFilesHandler } from './cleanup/handler.ts'
import { sendDigestHandler } from './digest/handler.ts'
import { exportTodosHandler } from './exports/handler.ts'
import { importTodosHandler } from './imports/handler.ts'
import { createMailer } from './mail.ts'
import * as operations from './operations.ts'
import { reportOverdueHandler } from './overdue/handler.ts'
import { sendReminderHandler } from './reminders/handler.ts'
import { refreshSummaryHandler } from './summary/handler.ts'
import { makeThumbnailHandler } from './thumbnails/handler.ts'
import { completeTodoHandler, createTodoHandler } from './todo/handler.ts'
import { rebuildWordsHandler } from './words/handler.ts'

export default defineHandlers(operations, ({ db, onShutdown }: Dependencies) => {
  const mailer = createMailer({
    smtpUrl: process.env.SMTP_URL,
    directory: join(process.env.DATA_DIR ?? '.data', 'mail'),
    retrySeconds: Number(process.env.SMTP_RETRY_SECONDS ?? 60),
  })
  onShutdown(() => mailer.close())

  return {
    'todo.create': createTodoHandler,
    'todo.complete': completeTodoHandler,
    'reminder.send': sendReminderHandler(db, mailer),
    'attachment.add': addAttachmentHandler,
    'thumbnail.make': makeThumbnailHandler,
    'summary.refresh': refreshSummaryHandler,
    'words.rebuild': rebuildWordsHandler(db),
    'todo.import': importTodosHandler(db),
    'todo.export': exportTodosHandler(db),
    'files.delete-old': deleteOldFilesHandler,
    'digest.send': sendDigestHandler(db, mailer, process.env.DIGEST_TO ?? 'team@example.com'),
    'overdue.report': reportOverdueHandler,
  }
})
