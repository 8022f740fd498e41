// Kubeflow shows HTML as the srcdoc of a frame: there a link to a place on the page would open the page around it.
if (location.href.startsWith("about:srcdoc")) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link) {
      event.preventDefault();
      document.getElementById(decodeURIComponent(link.hash.slice(1))).scrollIntoView();
    }
  });
}
