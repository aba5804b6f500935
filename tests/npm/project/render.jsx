// What applications have around the recipes for React.
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createRoot } from "react-dom/client";

export function render(Page) {
  createRoot(document.querySelector("main")).render(
    <QueryClientProvider client={new QueryClient()}>
      <Page />
    </QueryClientProvider>,
  );
}

export const pageOf = ({ useReport, useLogin }) =>
  function Page() {
    const report = useReport();
    const login = useLogin?.();
    return (
      <>
        <p>{report.data}</p>
        <button onClick={() => login.mutate("ada")}>Log in</button>
      </>
    );
  };
